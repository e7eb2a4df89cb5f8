import logging
import os
import re
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny import CONFIG, StopAt, TinySession, config_with, read_scalars

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.files.append_only import file_sizes, truncate_files
from torchbase.hooks import LogValues, TensorBoard
from torchbase.logging_backends.event_file import PATTERN
from torchbase.run_directory.directory import RunDirectory


def test_every_iteration_and_every_epoch_is_recorded(tmp_path):
    losses = []

    class Collect:
        @hookimpl
        def on_iteration_end(self, phase):
            losses.append((phase.name, phase.progress.iterations, phase.loss.item()))

    session = TinySession(CONFIG, tmp_path)
    session.register(Collect())
    summary = session()
    scalars = read_scalars(session.run_dir)
    for phase, count in (("training", 10), ("validation-valid", 6), ("validation-demo", 4)):
        expected = [(step, loss) for name, step, loss in losses if name == phase]
        assert scalars[f"{phase}/loss/iterations"] == expected
        assert len(expected) == count
        assert [step for step, _ in scalars[f"{phase}/loss/epochs"]] == [1, 2]
        assert scalars[f"{phase}/loss/epochs"][1][1] == pytest.approx(summary.averages[phase]["loss"], rel=1e-6)


def test_ten_thousand_iterations_are_recorded_in_order(tmp_path):
    run = Run(
        training=Phase("training", range(10_000), is_training=True),
        max_epochs=1,
        run_directory=RunDirectory.create(tmp_path),
    )
    Engine(lambda run, phase, batch: run.log("v", float(batch)), hooks=[LogValues(), TensorBoard()]).run(run)
    values = read_scalars(run.run_directory.path)["training/v/iterations"]
    assert values == [(step, step - 1.0) for step in range(1, 10_001)]


def test_every_kind_of_record_can_be_read_back(tmp_path):
    class Records:
        @hookimpl
        def on_epoch_end(self, run):
            run.call.log_text(run=run, tag="note", text="**bold**", step=1)
            run.call.log_image(run=run, tag="picture", image=torch.rand(3, 4, 4), step=1)
            run.call.log_image(run=run, tag="bytes", image=np.zeros((1, 4, 4), dtype=np.uint8), step=1)
            figure = Figure(figsize=(2, 1), dpi=50)
            figure.add_subplot().plot([1, 2])
            run.call.log_figure(run=run, tag="plot", figure=figure, step=1)
            run.call.log_histogram(run=run, tag="weights", values=torch.randn(100), step=1)

    session = TinySession(config_with(num_epochs=1), tmp_path)
    session.register(Records())
    session()
    accumulator = EventAccumulator(session.run_dir).Reload()
    tags = accumulator.Tags()
    assert set(tags["images"]) == {"picture", "bytes", "plot"}
    assert tags["histograms"] == ["weights"]
    assert "note/text_summary" in tags["tensors"]
    image = accumulator.Images("picture")[0]
    assert (image.step, image.width, image.height) == (1, 4, 4)
    assert accumulator.Images("plot")[0].width == 100


def test_hyper_parameters_are_in_the_runs_own_file(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    summary = session()
    accumulator = EventAccumulator(session.run_dir).Reload()
    plugin = accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert plugin.plugin_name == "hparams"
    assert b"session.learning_rate" in plugin.content
    ((step, loss),) = read_scalars(session.run_dir)["validation-valid/best_loss/epochs"]
    assert step == 2
    assert loss == pytest.approx(summary.best_losses["validation-valid"].loss, rel=1e-6)
    assert [path.name for path in Path(session.run_dir).iterdir() if path.is_dir()] == ["states"]


def summaries_with(run_dir, tag):
    """Every summary of a tag in all event files of a run, oldest first; an accumulator only has the last."""
    files = sorted(Path(run_dir).glob("events.out.tfevents.*"))
    events = [event for file in files for event in EventFileLoader(str(file)).Load()]
    return [value for event in events for value in event.summary.value if value.tag == tag]


@pytest.mark.parametrize("stopped", [True, False])
def test_a_resumed_run_has_one_entry_of_hyper_parameters_with_its_last_results(tmp_path, stopped):
    session = TinySession(config_with(num_epochs=3 if stopped else 2), tmp_path)
    if stopped:
        session.register(StopAt(8))
    session()
    resumed = TinySession(
        config_with(num_epochs=3), tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(session.run_dir).name
    )
    summary = resumed()
    (entry,) = summaries_with(session.run_dir, "_hparams_/session_start_info")
    hparams = HParamsPluginData.FromString(entry.metadata.plugin_data.content).session_start_info.hparams
    assert hparams["session.num_epochs"].number_value == 3
    assert hparams["network.architecture"].string_value == "TinyNetwork"
    (entry,) = summaries_with(session.run_dir, "_hparams_/experiment")
    metrics = HParamsPluginData.FromString(entry.metadata.plugin_data.content).experiment.metric_infos
    assert {info.name.tag for info in metrics} == {
        "validation-valid/best_loss/epochs",
        "validation-demo/best_loss/epochs",
    }
    ((step, loss),) = read_scalars(session.run_dir)["validation-valid/best_loss/epochs"]
    assert (step, loss) == (3, pytest.approx(summary.best_losses["validation-valid"].loss, rel=1e-6))


def test_a_layout_shows_the_curves_of_exactly_its_tags(tmp_path):
    class LogLayout:
        @hookimpl
        def on_run_start(self, run):
            run.call.log_layout(run=run, layout={"mine": {"loss": ["training/loss/epochs", "a+b", "a"]}})

        @hookimpl
        def on_run_end(self, run):
            run.call.log_scalars(run=run, scalars={"a": 1.0, "a+b": 2.0, "ab": 3.0, "aab": 4.0}, step=1)

    session = TinySession(config_with(num_epochs=1), tmp_path)
    session.unregister("charts")
    session.register(LogLayout())
    session()
    (entry,) = summaries_with(session.run_dir, "custom_scalars__config__")
    (category,) = Layout.FromString(entry.tensor.string_val[0]).category
    (chart,) = category.chart
    assert (category.title, chart.title) == ("mine", "loss")
    tags = EventAccumulator(session.run_dir).Reload().Tags()["scalars"]
    # The plugin chooses them this way: tensorboard/plugins/custom_scalar/custom_scalars_plugin.py
    shown = [[tag for tag in tags if re.compile(pattern).match(tag)] for pattern in chart.multiline.tag]
    assert shown == [["training/loss/epochs"], ["a+b"], ["a"]]


STEPS = 20_000  # TensorBoard shows a sample of a curve with more than 10,000 values, unless it is asked for all


def test_values_of_a_long_run_can_be_read_while_it_runs(tmp_path):
    seen, expected = [], [(step, float(step)) for step in range(1, STEPS + 101)]

    def step(run, phase, batch):
        run.log("v", float(batch))
        if batch == STEPS:
            deadline = time.monotonic() + 120  # a few seconds, and more on a busy machine
            while len(seen) < STEPS - 64 and time.monotonic() < deadline:  # the last block may not be complete
                time.sleep(0.5)
                seen[:] = read_scalars(run.run_directory.path)["training/v/iterations"]

    run = Run(
        training=Phase("training", range(1, STEPS + 101), is_training=True),
        max_epochs=1,
        run_directory=RunDirectory.create(tmp_path),
    )
    Engine(step, hooks=[LogValues(), TensorBoard()]).run(run)
    assert len(seen) >= STEPS - 64
    assert seen == expected[: len(seen)]
    assert read_scalars(run.run_directory.path)["training/v/iterations"] == expected


def test_events_are_on_disk_after_an_error(tmp_path):
    class Failing(TinySession):
        def init_optimizer(self):
            optimizer = super().init_optimizer()
            optimizer.register_step_pre_hook(self.fail_late)
            return optimizer

        steps = 0

        def fail_late(self, *arguments):
            self.steps += 1
            if self.steps == 8:
                raise KeyError

    session = Failing(CONFIG, tmp_path)
    with pytest.raises(KeyError):
        session()
    steps = [step for step, _ in read_scalars(session.run_dir)["training/loss/iterations"]]
    assert steps == list(range(1, 8))


def test_without_the_hook_there_is_no_event_file(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    assert isinstance(session.unregister("tensorboard"), TensorBoard)
    session()
    assert not list(Path(session.run_dir).glob("events*"))


def test_without_a_run_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    hook = TensorBoard()

    class Records:
        @hookimpl
        def on_epoch_end(self, run):
            run.call.log_scalars(run=run, scalars={"a": 1.0}, step=1)
            run.call.log_text(run=run, tag="a", text="b", step=1)

    Engine(lambda run, phase, batch: None, hooks=[hook, Records()]).run(run)
    assert list(tmp_path.iterdir()) == []


class Ends(BaseException):
    """Ends the program in the middle of a run, without another checkpoint."""


class At:
    """Calls a function at the end of an iteration of a phase."""

    def __init__(self, phase, iteration, action):
        self.phase, self.iteration, self.action = phase, iteration, action

    @hookimpl
    def on_iteration_end(self, run, phase):
        if (phase.name, phase.progress.iterations) == (self.phase, self.iteration):
            self.action(run)


def stop(run):
    run.request_stop("for the test")


def end(run):
    raise Ends


def event_files(session):
    return sorted(Path(session.run_dir).glob("events.out.tfevents.*"))


def resume(session):
    return TinySession.resume(Path(session.run_dir).parent, Path(session.run_dir).name)


@pytest.mark.parametrize(
    ("phase", "iteration", "action"),
    [
        ("training", 3, stop),
        ("training", 5, stop),
        ("validation-valid", 2, stop),
        ("validation-valid", 5, stop),
        ("validation-demo", 3, stop),
        ("validation-demo", 4, stop),
        ("training", 4, end),
        ("training", 9, end),
        ("validation-valid", 5, end),
    ],
)
def test_a_resumed_run_records_each_step_once(tmp_path, phase, iteration, action):
    uninterrupted = TinySession(CONFIG, tmp_path)
    uninterrupted()
    interrupted = TinySession(config_with(checkpoint_every_n_iterations=3), tmp_path)
    interrupted.register(At(phase, iteration, action))
    with pytest.raises(Ends) if action is end else nullcontext():
        interrupted()
    interrupted._run_directory.writes.join()  # the end of a program ends its threads, too
    interrupted._run_directory.unlock()
    resume(interrupted)()
    assert read_scalars(interrupted.run_dir) == read_scalars(uninterrupted.run_dir)


def test_a_run_that_ended_before_its_first_checkpoint_records_each_step_once(tmp_path):
    uninterrupted = TinySession(CONFIG, tmp_path)
    uninterrupted()
    interrupted = TinySession(CONFIG, tmp_path)
    interrupted._run_directory.writes.wait()
    interrupted._run_directory.unlock()  # as if the program was killed
    resumed = resume(interrupted)
    resumed.register(At("training", 4, end))
    with pytest.raises(Ends):
        resumed()
    assert len(read_scalars(interrupted.run_dir)["training/loss/iterations"]) == 3
    resume(interrupted)()
    assert read_scalars(interrupted.run_dir) == read_scalars(uninterrupted.run_dir)


def test_its_state_has_the_sizes_of_the_files_without_an_interrupted_validation(tmp_path):
    def state_after(phase, iteration):
        session = TinySession(CONFIG, tmp_path)
        session.register(At(phase, iteration, stop))
        session()
        state = newest_whole_checkpoint(Path(session.run_dir) / "states").parts["training"]["hooks"]["tensorboard"]
        truncate_files(Path(session.run_dir), PATTERN, state["sizes"])
        assert file_sizes(Path(session.run_dir), PATTERN) == state["sizes"]
        return {tag: len(values) for tag, values in read_scalars(session.run_dir).items()}

    trained = {"training/loss/iterations": 5, "training/loss/epochs": 1}
    validated = {"validation-valid/loss/iterations": 3, "validation-valid/loss/epochs": 1}
    assert state_after("training", 4) == {"training/loss/iterations": 4}
    assert state_after("validation-valid", 1) == trained
    assert state_after("validation-demo", 1) == {**trained, **validated}


class FullDisk:
    """Makes each write to the event file fail as on a full disk, from the start of an epoch."""

    def __init__(self, session, epoch):
        self.hook, self.epoch = session.hooks["tensorboard"], epoch

    @hookimpl
    def on_iteration_start(self, run, phase):
        if phase.is_training and (run.epoch, phase.progress.mini_batches) == (self.epoch, 0):
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, self.hook._file._file.fileno())
            os.close(full)


def train_on_a_full_disk(tmp_path, caplog, epoch):
    session = TinySession(config_with(num_epochs=3), tmp_path)
    session.register(FullDisk(session, epoch))
    with caplog.at_level(logging.WARNING, "torchbase"):
        summary = session()
    (warning,) = [record.message for record in caplog.records if "tensorboard can't write" in record.message]
    assert f"its event file in {session.run_dir}, so some values will be missing there; training " in warning
    assert "No space left on device" in warning
    complete = TinySession(config_with(num_epochs=3), tmp_path)
    assert summary.averages == complete().averages
    return session, {tag: [step for step, _ in values] for tag, values in read_scalars(session.run_dir).items()}


def test_a_full_disk_is_logged_once_and_flushed_records_stay(tmp_path, caplog):
    session, steps = train_on_a_full_disk(tmp_path, caplog, epoch=2)
    assert len(event_files(session)) == 1  # another file is tried after a minute
    assert steps["training/loss/iterations"] == [1, 2, 3, 4, 5]
    assert steps["validation-valid/loss/epochs"] == steps["validation-demo/loss/epochs"] == [1]


def test_another_file_is_tried_later_and_has_later_records(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(TensorBoard, "seconds_until_tried_again", 0.0)
    session, steps = train_on_a_full_disk(tmp_path, caplog, epoch=2)
    assert len(event_files(session)) == 2
    assert steps["training/loss/iterations"] == [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]
    assert steps["training/loss/epochs"] == [1, 3]
    assert steps["validation-valid/loss/epochs"] == steps["validation-demo/loss/epochs"] == [1, 2, 3]
    assert steps["validation-valid/best_loss/epochs"] == [3]


def test_event_files_that_can_not_be_truncated_do_not_end_the_run(tmp_path, caplog):
    session = TinySession(CONFIG, tmp_path)
    Path(session.run_dir, "events.out.tfevents.1.torchbase").mkdir()
    assert session().epochs_done == 2
    assert "tensorboard can't write its event file" in caplog.text
