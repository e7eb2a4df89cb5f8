import time

import pytest
from every_technique import check_resumes_exactly, session_with, training_differences
from tiny import StopAt, TinySession

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.errors import IntervalError
from torchbase.hooks import TimeLimit


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(time, "monotonic", lambda: Clock.now)
    return Clock


class OneSecondIterations:
    """Advances the clock by one second in each training iteration."""

    def __init__(self, clock):
        self.clock = clock

    @hookimpl
    def run_backward(self, loss):
        self.clock.now += 1.0
        loss.backward()


def resumed(parent, *hooks):
    session = TinySession.resume(parent)
    for hook in hooks:
        session.register(hook)
    return session


def test_the_run_stops_at_the_limit_with_its_state_saved(tmp_path, clock):
    session = session_with(tmp_path / "limited", OneSecondIterations(clock), TimeLimit("7s"), num_epochs=4)
    summary = session()
    assert (summary.epochs_done, session._run.progress.iterations) == (1, 7)
    assert summary.stop_reason == "the time limit of 7s is reached"
    stopped = session_with(tmp_path / "stopped", StopAt(7), num_epochs=4)
    stopped()
    assert training_differences(session, stopped) == []
    longer = resumed(tmp_path / "limited", OneSecondIterations(clock), TimeLimit("10.5s"))
    assert (longer().epochs_done, longer._run.progress.iterations) == (2, 11)


def test_only_the_time_of_the_parts_of_a_resumed_run_counts(tmp_path, clock):
    first = session_with(tmp_path, OneSecondIterations(clock), TimeLimit("7s"), StopAt(3), num_epochs=4)
    first()
    clock.now += 1000.0
    second = resumed(tmp_path, OneSecondIterations(clock), TimeLimit("7s"))
    assert second().stop_reason == "the time limit of 7s is reached"
    assert second._run.progress.iterations == 7
    third = resumed(tmp_path, OneSecondIterations(clock), TimeLimit("7s"))
    assert third().stop_reason == "the time limit of 7s is reached"
    assert third._run.progress.iterations == 7


def test_a_resumed_run_continues_exactly(tmp_path, clock):
    whole = check_resumes_exactly(tmp_path, lambda: [TimeLimit("9s"), OneSecondIterations(clock)], num_epochs=4)
    assert whole._run.progress.iterations == 9


def test_real_time_is_measured():
    def step(run, phase, batch):
        time.sleep(0.02)

    run = Run(training=Phase("training", [0] * 1000, is_training=True), max_epochs=1)
    Engine(step, hooks=[TimeLimit("0.1s")]).run(run)
    assert run.progress.iterations <= 5


def test_a_limit_must_be_in_seconds():
    with pytest.raises(IntervalError, match=r"isn't possible here\. To fix, use the unit s"):
        TimeLimit("2ep")
