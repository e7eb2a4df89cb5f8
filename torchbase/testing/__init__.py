"""Checks for those who write hooks: that a hook is told, observes, repeats itself and is resumed as it should be.

::

    from torchbase.testing import check_hook

    def test_the_hook_keeps_to_the_rules():
        print(check_hook(MyHook, observes=True))

They need no test framework. A check that fails raises `torchbase.errors.HookCheckError`.
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
    "check_registration",
    "check_repetition",
    "check_state",
    "check_stops",
    "measure_overhead",
    "read_scalars",
    "tiny_config",
    "tiny_dataset",
]
