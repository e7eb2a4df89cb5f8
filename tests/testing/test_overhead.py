import itertools
from types import SimpleNamespace

import pytest
from hooks_to_check import Sleeps
from tiny import TinySession, config_with

from torchbase import hookimpl
from torchbase.testing import HookTrial, instruments, measure_overhead


def test_the_time_of_a_hook_is_measured(monkeypatch):
    now = itertools.count(0.0, 0.001)  # an iteration takes a millisecond, on any machine
    slept = []

    class SleepsInTheory:
        @hookimpl
        def on_iteration_end(self, phase):
            if phase.is_training:
                slept.append(0.003)

    clock = SimpleNamespace(perf_counter=lambda: next(now) + sum(slept))
    monkeypatch.setattr(instruments, "time", clock)
    overhead = measure_overhead(HookTrial(SleepsInTheory), turns=2)
    assert overhead.microseconds == pytest.approx(3000)
    assert overhead.low <= overhead.high
    assert overhead.without > 0
    assert (overhead.iterations, overhead.turns) == (99, 2)
    assert str(overhead).startswith(
        f"{overhead.microseconds:+.1f} µs per iteration on top of {overhead.without:.0f} µs"
    )


def test_a_custom_session_is_timed_unchanged():
    overhead = measure_overhead(HookTrial(Sleeps, TinySession, config_with()), turns=2)
    assert overhead.iterations == 8  # two epochs of five iterations, without the first of each
