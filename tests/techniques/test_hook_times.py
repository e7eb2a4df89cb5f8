import re
import time
from pathlib import Path

import pytest
from every_technique import check_resumes_exactly, session_with, training_differences

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import HookTimes


def rows_of(text):
    """Returns the cells of the table by hook and event: calls, total ms, µs per call."""
    rows = re.findall(r"^(\S+) +(\w+) +([\d,]+) +([\d,.]+) +([\d,.]+)$", text, re.MULTILINE)
    return {(hook, event): [float(cell.replace(",", "")) for cell in cells] for hook, event, *cells in rows}


class Clock:
    """A clock that the test advances."""

    now = 0.0

    def advance(self, seconds):
        self.now += seconds

    def __call__(self):
        return self.now


class Logs:
    def __init__(self, name, clock, seconds):
        self.name, self.clock, self.seconds = name, clock, seconds

    @hookimpl
    def on_iteration_end(self, run):
        self.clock.advance(self.seconds)
        run.call.log_scalars(run=run, scalars={}, step=1)
        self.clock.advance(self.seconds)


class SlowBackend:
    name = "slow_backend"

    def __init__(self, clock):
        self.clock = clock

    @hookimpl
    def log_scalars(self):
        self.clock.advance(0.02)


class Wrapper:
    name = "wrapper"

    def __init__(self, clock):
        self.clock = clock

    @hookimpl(wrapper=True)
    def run_iteration(self):
        self.clock.advance(0.004)
        result = yield
        self.clock.advance(0.004)
        return result


def test_the_time_of_a_hook_excludes_other_hooks(caplog, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("torchbase.techniques.hook_times.perf_counter", clock)

    def step(run, phase, batch):
        clock.advance(0.03)

    run = Run(training=Phase("training", [1, 2, 3], is_training=True), max_epochs=1)
    hooks = [Logs("slow", clock, 0.01), HookTimes(), Logs("quick", clock, 0.0), SlowBackend(clock), Wrapper(clock)]
    with caplog.at_level("INFO", "torchbase"):
        Engine(step, hooks=hooks).run(run)
    assert rows_of(caplog.text) == {
        ("slow_backend", "log_scalars"): [6, 120.0, 20000.0],  # called by both
        ("run_iteration", "run_iteration"): [3, 90.0, 30000.0],
        ("slow", "on_iteration_end"): [3, 60.0, 20000.0],
        ("wrapper", "run_iteration"): [3, 24.0, 8000.0],
        ("quick", "on_iteration_end"): [3, 0.0, 0.0],
        ("engine", "run_phase"): [1, 0.0, 0.0],
    }
    assert next(iter(rows_of(caplog.text))) == ("slow_backend", "log_scalars")


def test_real_time_is_measured(caplog):
    def step(run, phase, batch):
        time.sleep(0.02)

    run = Run(training=Phase("training", [1, 2, 3], is_training=True), max_epochs=1)
    with caplog.at_level("INFO", "torchbase"):
        Engine(step, hooks=[HookTimes()]).run(run)
    assert rows_of(caplog.text)["run_iteration", "run_iteration"][1] >= 60


def test_the_table_is_in_the_run_directory_and_training_is_unchanged(tmp_path):
    session = check_resumes_exactly(tmp_path, lambda: [HookTimes()])
    rows = rows_of(Path(session.run_dir, "hook_times.txt").read_text(encoding="utf-8"))
    assert rows["training_step", "run_forward"][0] == 10 + 2 * (3 + 2) + 3 * 2  # training, validation, rehearsal
    assert rows["training_step", "run_optimizer_step"][0] == 10
    assert rows["checkpoint", "on_iteration_end"][0] == 20
    assert not any(hook == "hook_times" for hook, _ in rows)
    plain = session_with(tmp_path, dropout=0.3)
    plain()
    assert training_differences(session, plain) == []


def test_the_table_is_written_after_an_error(tmp_path):
    class Fails:
        @hookimpl
        def on_epoch_end(self):
            raise ZeroDivisionError

    session = session_with(tmp_path, HookTimes(), Fails())
    with pytest.raises(ZeroDivisionError):
        session()
    assert ("fails", "on_epoch_end") in rows_of(Path(session.run_dir, "hook_times.txt").read_text(encoding="utf-8"))
