from dataclasses import replace

import pytest
from hooks_to_check import GradientNorms

from torchbase.testing import HookTrial
from torchbase.testing.comparisons import compare_with_uninterrupted, training_iteration
from torchbase.testing.tried_run import FiredEvent


@pytest.fixture(scope="module")
def trial():
    return HookTrial(GradientNorms)


def test_a_share_of_the_run_is_a_training_iteration(trial):
    assert [training_iteration(trial, share) for share in (0.0, 0.3, 0.8, 0.99)] == [1, 4, 9, 10]


TRAINING = FiredEvent("on_iteration_end", "training", 3, 1)
VALIDATION = FiredEvent("on_iteration_end", "validation-valid", 2, 1)
END = FiredEvent("on_epoch_end", "-", 1, 1)
BEYOND = FiredEvent("on_iteration_end", "training", 11, 3)


@pytest.mark.parametrize(
    ("fired", "times", "is_killed", "differences"),
    [
        (TRAINING, 2, False, ["on_iteration_end of training iteration 3 2 times instead of 1"]),
        (TRAINING, 0, False, ["on_iteration_end of training iteration 3 0 times instead of 1"]),
        (VALIDATION, 2, False, []),  # it restarted
        (VALIDATION, 0, False, ["on_iteration_end of validation-valid iteration 2 0 times instead of 1"]),
        (END, 2, False, ["on_epoch_end of epoch 1 2 times instead of 1"]),
        (TRAINING, 2, True, []),
        (TRAINING, 0, True, ["on_iteration_end of training iteration 3 0 times instead of 1"]),
        (BEYOND, 1, True, ["on_iteration_end of training iteration 11 1 times instead of 0"]),
    ],
)
def test_events_that_fire_too_often_or_too_rarely_are_found(trial, fired, times, is_killed, differences):
    others = tuple(event for event in trial.unbroken.events if event != fired)
    run = replace(trial.unbroken, events=(*others, *(fired for _ in range(times))))
    expected = [("events", difference) for difference in differences]
    assert compare_with_uninterrupted(trial, run, is_killed=is_killed) == expected
