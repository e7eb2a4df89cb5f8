"""What each training technique adds to an iteration, compared with a session without techniques.

The network is so small that the overhead of the hooks is visible. The time includes the work of the technique itself,
for example when torch clips the gradients of four parameters.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import MICROSECONDS_PER_ITERATION, Outcome, Sample, Side, TimedBatches, compare
from preset_overhead import CONFIG, READY_MADE, SmallSession
from torch.optim.lr_scheduler import ExponentialLR

from torchbase import hooks

WARM_UP = 64
ITERATIONS = 512
REPETITIONS = 21


class NeverPruned:
    """A trial that stores nothing."""

    def report(self, value: float, step: int) -> None:
        pass

    def should_prune(self) -> bool:
        return False


TECHNIQUES: dict[str, Callable[[], object]] = {
    "GradientClipping(norm=1.0)": partial(hooks.GradientClipping, norm=1.0),
    "GradientAccumulation(1)": partial(hooks.GradientAccumulation, 1),
    "LearningRateSchedule(ExponentialLR, '1it')": partial(
        hooks.LearningRateSchedule, partial(ExponentialLR, gamma=0.9999), "1it"
    ),
    "EarlyStopping('loss', 'training')": partial(hooks.EarlyStopping, "loss", "training"),
    "Pruning(trial, 'loss', 'training')": lambda: hooks.Pruning(NeverPruned(), "loss", "training"),
    "SharpnessAwareMinimization()": hooks.SharpnessAwareMinimization,
    "ClosureStep()": hooks.ClosureStep,
    "MixedPrecision('bf16')": partial(hooks.MixedPrecision, "bf16"),
    "MixedPrecision('fp16')": partial(hooks.MixedPrecision, "fp16"),
    "ExponentialMovingAverage(0.999)": partial(hooks.ExponentialMovingAverage, 0.999),
    "Freeze('0.*')": partial(hooks.Freeze, "0.*"),
    "Unfreeze('0.*', '1ep')": partial(hooks.Unfreeze, "0.*", "1ep"),
    "KeepBest(3, phase='training')": partial(hooks.KeepBest, 3, phase="training"),
    "TimeLimit('3600s')": partial(hooks.TimeLimit, "3600s"),
    "ActivationCheckpointing('*')": partial(hooks.ActivationCheckpointing, "*"),
    "Compile(backend='eager')": partial(hooks.Compile, backend="eager"),
    "RetryOnOutOfMemory()": hooks.RetryOnOutOfMemory,
    "LogGradients('100it')": partial(hooks.LogGradients, "100it"),
    "LogWeights('100it')": partial(hooks.LogWeights, "100it"),
    "Fingerprint('100it')": partial(hooks.Fingerprint, "100it"),
    "LogSamples(1, […], every='2ep')": partial(hooks.LogSamples, 1, ["features"], "training", "2ep"),
    "Profile, of other iterations": partial(hooks.Profile, range(10**6, 10**6 + 1)),
    "Throughput('100it')": partial(hooks.Throughput, "100it"),
    "MemoryMonitor('100it')": partial(hooks.MemoryMonitor, "100it"),
    "HookTimes()": hooks.HookTimes,
}


def measure() -> Outcome:
    """Measures a session with each technique, one at a time, and without techniques."""
    sides = [Side("no technique", partial(clock, None))]
    sides += [Side(name, partial(clock, make)) for name, make in TECHNIQUES.items()]
    return compare(
        "technique_overhead: training a small network with one technique",
        f"MLP 16-32-2, mini-batches of 32, fused Adam, all default hooks; {ITERATIONS:,} iterations after {WARM_UP} "
        "for warming up.",
        sides,
        REPETITIONS,
        MICROSECONDS_PER_ITERATION,
    )


def clock(make_hook: Callable[[], object] | None) -> Sample:
    """Measures the time of an iteration, and of the rest of the run.

    Args:
        make_hook: Creates the hook to register; None registers none.
    """
    batches = TimedBatches(READY_MADE, WARM_UP, ITERATIONS)
    with TemporaryDirectory() as folder:
        session = SmallSession(CONFIG, Path(folder))
        session.ready_made = batches
        if make_hook is not None:
            session.register(make_hook())
        started_at = time.perf_counter()
        session()
        whole = time.perf_counter() - started_at
    each = batches.seconds_per_iteration
    return Sample(each, whole - each * len(batches))
