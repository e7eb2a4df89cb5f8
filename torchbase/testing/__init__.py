"""Checks for authors of hooks: whether a hook only observes, repeats itself, is resumed exactly, and shares processes.

::

    from torchbase.testing import check_hook

    def test_the_hook_follows_the_rules():
        print(check_hook(MyHook, observes=True))

For: running a small session with and without a hook, uninterrupted, stopped and killed, on one process and on several,
and comparing the results.

In: a function that creates a hook. Out: a `HookReport`; a failed check raises `torchbase.errors.HookCheckError`. No
test framework is needed.

Begin with `torchbase.testing.checks`, then read `torchbase.testing.trial`, which runs the sessions.
"""

from torchbase.testing.checks import (
    check_hook,
    check_kill,
    check_neutrality,
    check_registration,
    check_repetition,
    check_state,
    check_stops,
)
from torchbase.testing.instruments import StopAt
from torchbase.testing.outcomes import read_scalars
from torchbase.testing.overhead import Overhead, measure_overhead
from torchbase.testing.process_check import check_processes
from torchbase.testing.report import CheckResult, HookReport
from torchbase.testing.tiny_session import (
    TINY_CONFIG,
    NoisySession,
    TinyNetwork,
    TinySession,
    tiny_config,
    tiny_dataset,
)
from torchbase.testing.trial import HookTrial

__all__ = [
    "TINY_CONFIG",
    "CheckResult",
    "HookReport",
    "HookTrial",
    "NoisySession",
    "Overhead",
    "StopAt",
    "TinyNetwork",
    "TinySession",
    "check_hook",
    "check_kill",
    "check_neutrality",
    "check_processes",
    "check_registration",
    "check_repetition",
    "check_state",
    "check_stops",
    "measure_overhead",
    "read_scalars",
    "tiny_config",
    "tiny_dataset",
]
