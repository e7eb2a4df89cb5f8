import itertools
from types import SimpleNamespace

import pytest
from hooks_to_check import Sleeps
from tiny import TinySession, config_with

from torchbase import hookimpl
from torchbase.testing import HookTrial, instruments, measure_overhead


def test_what_a_hook_takes_is_measured_on_both_sides(monkeypatch):
    now = itertools.count(0.0, 0.001)  # an iteration takes a millisecond, on any machine
    slept = []

    class Ages:
        @hookimpl
        def on_iteration_end(self, phase):
            if phase.is_training:
                slept.append(0.003)

    clock = SimpleNamespace(perf_counter=lambda: next(now) + sum(slept))
    monkeypatch.setattr(instruments, "time", clock)
    overhead = measure_overhead(HookTrial(Ages), turns=2)
    assert overhead.microseconds == pytest.approx(3000)
    assert overhead.low <= overhead.high
    assert overhead.without > 0
    assert (overhead.iterations, overhead.turns) == (149, 2)
    assert str(overhead).startswith(f"{overhead.microseconds:+.1f} µs an iteration over {overhead.without:.0f} µs")


def test_a_session_of_ones_own_is_timed_as_it_is():
    overhead = measure_overhead(HookTrial(Sleeps, TinySession, config_with()), turns=2)
    assert overhead.iterations == 8  # of two epochs of five, without the first of each
