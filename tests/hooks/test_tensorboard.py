from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import CONFIG, TinySession, config_with, read_scalars

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import LogValues, TensorBoard
from torchbase.run_directory import RunDirectory


def test_every_iteration_and_every_epoch_is_recorded_at_its_step(tmp_path):
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


def test_ten_thousand_iterations_are_all_there_in_order(tmp_path):
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


def test_hyper_parameters_stand_in_the_runs_own_file(tmp_path):
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


def test_unregistering_it_leaves_no_event_file(tmp_path):
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
