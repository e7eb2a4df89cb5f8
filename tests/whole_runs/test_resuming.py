"""Runs that are stopped, interrupted and resumed, or observed, compared with uninterrupted runs."""

import copy
import json
import os
import signal
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from divided import in_suite
from kill.scenarios import DrawRandomNumbers
from tiny import CONFIG, StopAt, TinySession, config_with, make_dataset, read_scalars

from torchbase import ValidationDatasetsDict, hookimpl
from torchbase.errors import RunDirectoryLockedError
from torchbase.files.bitwise import different_values


def resume(session, **config):
    tag = Path(session.run_dir).name
    parent = Path(session.run_dir).parent
    return TinySession(config_with(**config), parent, create_run_dir_afresh=False, source_run_dir_tag=tag)


def result_of(session, summary):
    """Everything that a run ends with, except files named by time."""
    return {
        "network": session.network.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "averages": {name: dict(values) for name, values in summary.averages.items()},
        "best losses": {name: (best.loss, best.epoch) for name, best in summary.best_losses.items()},
        "best network": torch.load(Path(session.run_dir, "network.pth"), weights_only=True),
        "scalars": read_scalars(session.run_dir),
    }


def test_a_run_resumed_twenty_times_ends_like_an_uninterrupted_run(tmp_path):
    config = {"num_epochs": 5, "checkpoint_every_n_iterations": 3}
    whole = TinySession(config_with(**config), tmp_path / "whole")
    expected = result_of(whole, whole())
    session = TinySession(config_with(**config), tmp_path / "resumed")
    for iteration in range(1, 21):
        session.register(StopAt(iteration))
        assert session().stop_reason == "for the test"
        session = resume(session, **config)
    assert different_values(expected, result_of(session, session())) == []


def test_a_run_that_ends_before_its_first_checkpoint_restarts(tmp_path):
    whole = TinySession(CONFIG, tmp_path / "whole")
    expected = result_of(whole, whole())
    session = TinySession(CONFIG, tmp_path / "resumed")
    session.unregister("checkpoint")

    class Fail:
        @hookimpl
        def on_epoch_end(self):
            raise KeyboardInterrupt

    session.register(Fail())
    with pytest.raises(KeyboardInterrupt):
        session()
    again = resume(session)
    assert different_values(expected, result_of(again, again())) == []


def test_a_run_directory_stays_locked_while_it_is_written(tmp_path):
    written, may_end = [], threading.Event()

    class EndWhileWriting:
        @hookimpl
        def on_iteration_start(self, run):
            if run.epochs_done == 1:
                run.run_directory.writes.wait()  # so the run has results
                run.run_directory.writes.submit("slow", lambda: (may_end.wait(60), written.append(True)))
                raise KeyboardInterrupt

    session = TinySession(CONFIG, tmp_path)
    session.register(EndWhileWriting())
    with pytest.raises(KeyboardInterrupt):
        session()
    with pytest.raises(RunDirectoryLockedError):
        TinySession.resume(tmp_path)
    may_end.set()
    while session._run_directory._lock.is_locked:
        time.sleep(0.01)
    assert written == [True]
    assert TinySession.resume(tmp_path)().epochs_done == 2


@pytest.mark.parametrize(
    ("phase", "iteration"), [("validation-valid", 2), ("validation-valid", 5), ("validation-demo", 1)]
)
def test_a_stopped_validation_is_repeated_and_recorded_once(tmp_path, phase, iteration):
    whole = TinySession(CONFIG, tmp_path / "whole")
    expected = result_of(whole, whole())
    session = TinySession(CONFIG, tmp_path / "resumed")
    session.register(StopAt(iteration, phase))
    session()
    again = resume(session)
    assert different_values(expected, result_of(again, again())) == []


class ValidatedWithin(TinySession):
    """One validation set runs within epochs, and one after them."""

    every = ("3it", "1ep")

    def init_datasets(self):
        train, validation = super().init_datasets()
        return train, replace(validation, every=self.every)


def within_result_of(session, summary):
    lines = {name: Path(session.run_dir, name).read_text() for name in ("votes.jsonl", "epochs.jsonl")}
    return {**result_of(session, summary), **lines}


@pytest.fixture(scope="module")
def uninterrupted_within(tmp_path_factory):
    session = ValidatedWithin(CONFIG, tmp_path_factory.mktemp("whole"))
    return within_result_of(session, session())


def test_a_set_validated_within_epochs_has_its_curve_and_its_votes(uninterrupted_within):
    steps = {tag: [step for step, _ in curve] for tag, curve in uninterrupted_within["scalars"].items()}
    assert steps["validation-valid/loss/training_iterations"] == [3, 6, 9, 10]
    assert steps["validation-valid/loss/iterations"] == list(range(1, 13))
    assert steps["validation-demo/loss/epochs"] == [1, 2]
    assert "validation-valid/loss/epochs" not in steps
    votes = [json.loads(line) for line in uninterrupted_within["votes.jsonl"].splitlines()]
    assert [(one["epoch"], one["iteration"]) for one in votes] == [(1, 3), (2, 6), (2, 9), (2, 10)]


def test_validation_within_epochs_does_not_change_the_weights(tmp_path, uninterrupted_within):
    plain = TinySession(CONFIG, tmp_path)
    plain()
    assert different_values(uninterrupted_within["network"], plain.network.state_dict()) == []
    assert different_values(uninterrupted_within["optimizer"], plain.optimizer.state_dict()) == []


def test_the_best_network_within_an_epoch_is_that_of_its_iteration(tmp_path):
    best_state = {}

    class Store:
        @hookimpl
        def on_best_epoch(self, run):
            best_state.update(copy.deepcopy(run.network.state_dict()))

    session = ValidatedWithin(config_with(num_epochs=1, learning_rate=0.5), tmp_path)
    session.register(Store())
    best = session().best_losses["validation-valid"]
    assert different_values(best_state, torch.load(Path(session.run_dir, "network.pth"), weights_only=True)) == []
    assert best.iteration in (3, 5)
    session.load_best_network()
    assert session.evaluate(session.datasets_valid_dict["valid"], "valid")["loss"] == pytest.approx(best.loss)


ITERATIONS = [*(("training", n) for n in range(1, 11)), *(("validation-valid", n) for n in (1, 2, 3, 6, 10, 11))]
STOPS = [(*iteration, checkpoints) for iteration in ITERATIONS for checkpoints in (None, 1)]


@pytest.mark.parametrize(
    ("phase", "iteration", "checkpoints"),
    in_suite(STOPS, *(one for one in STOPS if one[-1] is None), ("training", 4, 1), ("validation-valid", 2, 1)),
)
def test_a_run_with_validation_within_epochs_resumes_exactly(
    tmp_path, uninterrupted_within, phase, iteration, checkpoints
):
    config = config_with(checkpoint_every_n_iterations=checkpoints)
    session = ValidatedWithin(config, tmp_path)
    session.register(StopAt(iteration, phase))
    session()
    again = ValidatedWithin.resume(tmp_path)
    assert different_values(uninterrupted_within, within_result_of(again, again())) == []


class FailedValidationError(Exception):
    """Raised in a validation."""


@pytest.mark.parametrize("iteration", [1, 3, 5, 12])
def test_a_run_resumes_exactly_after_an_error_in_a_validation_within_an_epoch(
    tmp_path, uninterrupted_within, iteration
):
    class Fail:
        @hookimpl
        def on_iteration_start(self, phase):
            if phase.name == "validation-valid" and phase.progress.iterations == iteration - 1:
                raise FailedValidationError

    session = ValidatedWithin(CONFIG, tmp_path)
    session.register(Fail())
    with pytest.raises(FailedValidationError) as caught:
        session()
    assert any("validation-valid, epoch" in note for note in caught.value.__notes__)
    again = ValidatedWithin.resume(tmp_path)
    assert different_values(uninterrupted_within, within_result_of(again, again())) == []


SETS = {
    0: ValidationDatasetsDict(datasets=(), only_for_demo=(), names=()),
    1: ValidationDatasetsDict(datasets=(make_dataset(7, 1.0),), only_for_demo=(False,), names=("one",)),
    3: ValidationDatasetsDict(
        datasets=(make_dataset(7), make_dataset(10, 0.1), make_dataset(6, 5.0)),
        only_for_demo=(False, True, False),
        names=("first", "second", "third"),
    ),
}


class DrawsWhileItReads(TinySession):
    """Draws random numbers in the collate function, in validation, too."""

    number_of_sets = 0

    def init_datasets(self):
        return make_dataset(), SETS[self.number_of_sets]

    def dataloader_collate_function(self, batch):
        batch = super().dataloader_collate_function(batch)
        return {**batch, "x": batch["x"] + 0.1 * torch.randn(batch["x"].shape)}


def test_observers_do_not_change_the_weights(tmp_path):
    states = []
    for number_of_sets in SETS:
        for without in ((), ("tensorboard",), ("console",), ("tensorboard", "console", "log_values", "rehearsal")):
            for observers in ((), (DrawRandomNumbers(),)):
                session = DrawsWhileItReads(CONFIG, tmp_path)
                session.number_of_sets = number_of_sets
                for name in without:
                    session.unregister(name)
                for hook in observers:
                    session.register(hook)
                session()
                states.append({"network": session.network.state_dict(), "optimizer": session.optimizer.state_dict()})
    assert len(states) == 24
    assert [different_values(states[0], one) for one in states] == [[]] * len(states)


def test_the_progress_bar_of_a_terminal_changes_nothing(programs, tmp_path):
    pty = pytest.importorskip("pty")
    script = textwrap.dedent("""
        import sys
        sys.path.insert(0, sys.argv[1])
        from tiny import CONFIG, TinySession
        TinySession(CONFIG, sys.argv[2])()
    """)
    primary, secondary = pty.openpty()
    pytest.importorskip("termios").tcsetwinsize(secondary, (24, 100))
    process = programs.start("-c", script, Path(__file__).parents[1], tmp_path / "terminal", terminal=secondary)
    os.close(secondary)
    seen = b""
    try:
        while chunk := os.read(primary, 4096):
            seen += chunk
    except OSError:  # raised by a closed terminal
        pass
    assert process.wait() == 0
    os.close(primary)
    assert b"batch/s" in seen
    plain = TinySession(CONFIG, tmp_path / "plain")
    plain()
    (with_bar,) = (tmp_path / "terminal").iterdir()
    best = [torch.load(Path(one, "network.pth"), weights_only=True) for one in (with_bar, plain.run_dir)]
    assert different_values(*best) == []


SCRIPT = """
    import os
    import sys
    sys.path.insert(0, {tests!r})
    from tiny import TinySession, config_with
    from torchbase import hookimpl

    class Slow:
        @hookimpl
        def on_iteration_end(self, run, phase):
            if phase.progress.iterations == {iteration} and phase.name == {phase!r}:
                print("ready", flush=True)
                sys.stdin.readline()

    os.setsid()
    session = TinySession(config_with(num_epochs=3, dataloader_num_workers={workers}), sys.argv[1])
    session.register(Slow())
    session()
"""


def start(programs, tmp_path, phase="training", iteration=7, workers=0):
    """Starts a run in a process and waits for the end of an iteration, which lasts until the process reads a line."""
    tests = str(Path(__file__).parents[1])
    script = SCRIPT.format(tests=tests, phase=phase, iteration=iteration, workers=workers)
    process = programs.start("-c", textwrap.dedent(script), tmp_path)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "phase", "iteration", "workers"),
    [
        (signal.SIGINT, "training", 7, 0),
        (signal.SIGINT, "training", 7, 2),
        (signal.SIGTERM, "training", 7, 0),
        (signal.SIGTERM, "validation-valid", 5, 2),
        (signal.SIGINT, "validation-demo", 3, 0),
    ],
)
def test_an_interrupted_run_ends_with_a_checkpoint_and_resumes_exactly(
    programs, tmp_path, number, phase, iteration, workers
):
    process = start(programs, tmp_path / "runs", phase, iteration, workers)
    os.killpg(process.pid, number)
    done = process.communicate("\n")
    assert done.returncode == -number, done.stderr
    assert "the run ends after this iteration" in done.stderr
    (directory,) = (tmp_path / "runs").iterdir()
    iterations = iteration if phase == "training" else 10
    assert list((directory / "states").glob(f"checkpoint-*-iteration-{iterations:010d}"))
    resumed = TinySession.resume(tmp_path / "runs")
    whole = TinySession(config_with(num_epochs=3, dataloader_num_workers=workers), tmp_path / "whole")
    assert different_values(result_of(whole, whole()), result_of(resumed, resumed())) == []


def test_a_second_signal_ends_the_run_at_once(programs, tmp_path):
    process = start(programs, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert any("the run ends after this iteration" in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGTERM)  # the iteration never ends by itself
    assert process.wait() in (-signal.SIGTERM, -signal.SIGINT)
