"""No iteration waits for the GPU."""

import pytest
import torch
from every_technique import PlainSession, session_with

from torchbase import hookimpl, hooks

OBSERVERS = {
    "the default hooks": list,
    "clipping, average, schedule": lambda: [
        hooks.GradientClipping(norm=0.5),
        hooks.ExponentialMovingAverage(0.9),
        hooks.LearningRateSchedule(lambda one: torch.optim.lr_scheduler.ExponentialLR(one, 0.99), "1it"),
    ],
    "bf16": lambda: [hooks.MixedPrecision("bf16")],
    "hook times": lambda: [hooks.HookTimes()],
}


class WaitsAreErrors:
    """Lets torch raise an error where the host waits for the GPU, except where a block of values is read."""

    def __init__(self):
        self.watched = 0

    @hookimpl(tryfirst=True)
    def on_iteration_start(self, run, phase):
        if phase.is_training and phase.progress.iterations > 0:
            torch.cuda.set_sync_debug_mode("error")
            self.watched += 1

    @hookimpl(trylast=True)
    def on_iteration_end(self, run, phase):
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("names", OBSERVERS)
def test_no_iteration_waits_for_the_gpu(tmp_path, gpu, names):
    watch = WaitsAreErrors()
    session = session_with(
        tmp_path, *OBSERVERS[names](), watch, kind=PlainSession, device_name=str(gpu), deterministic=False
    )
    try:
        session()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watch.watched > 5
