import math
from functools import partial

import pytest

from torchbase.errors import HookError
from torchbase.hooks import (
    EarlyStopping,
    ExponentialMovingAverage,
    GradientAccumulation,
    GradientClipping,
    LogSamples,
    MiniBatchParts,
)

NUMBERS = {
    "norm": partial(GradientClipping),
    "value": partial(GradientClipping),
    "decay": ExponentialMovingAverage,
    "min_delta": EarlyStopping,
}
COUNTS = {
    "patience": EarlyStopping,
    "mini_batches": GradientAccumulation,
    "parts": MiniBatchParts,
    "samples": partial(LogSamples, names=["x"]),
}


@pytest.mark.parametrize("setting", NUMBERS)
@pytest.mark.parametrize("value", ["0.5", [0.5], True, math.nan, -1.0])
def test_what_is_no_number_is_refused_when_the_hook_is_created(setting, value):
    with pytest.raises(HookError, match="but got") as error:
        NUMBERS[setting](**{setting: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("setting", COUNTS)
@pytest.mark.parametrize("value", ["3", [3], 2.5, 3.0, True, 0, -1])
def test_what_is_no_count_is_refused_when_the_hook_is_created(setting, value):
    with pytest.raises(HookError, match="but got") as error:
        COUNTS[setting](**{setting: value})
    assert repr(value) in str(error.value)
