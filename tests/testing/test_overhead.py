from hooks_to_check import Sleeps
from tiny import TinySession, config_with

from torchbase.testing import HookTrial, measure_overhead


def test_what_a_hook_takes_is_measured_on_both_sides():
    overhead = measure_overhead(HookTrial(Sleeps), turns=2)
    assert overhead.microseconds > 500  # it sleeps for 5 ms, on a machine that may be busy
    assert overhead.low <= overhead.high
    assert overhead.without > 0
    assert (overhead.iterations, overhead.turns) == (149, 2)
    assert str(overhead).startswith(f"{overhead.microseconds:+.1f} µs an iteration over {overhead.without:.0f} µs")


def test_a_session_of_ones_own_is_timed_as_it_is():
    overhead = measure_overhead(HookTrial(Sleeps, TinySession, config_with()), turns=2)
    assert overhead.iterations == 8  # of two epochs of five, without the first of each
