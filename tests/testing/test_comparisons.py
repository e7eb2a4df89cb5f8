from dataclasses import replace

import pytest
from hooks_to_check import GradientNorms

from torchbase.testing import HookTrial
from torchbase.testing.comparisons import training_iteration, wrong_in
from torchbase.testing.tried_run import Told


@pytest.fixture(scope="module")
def trial():
    return HookTrial(GradientNorms)


def test_a_share_of_the_run_ends_with_a_training_iteration(trial):
    assert [training_iteration(trial, share) for share in (0.0, 0.3, 0.8, 0.99)] == [1, 4, 9, 10]


TRAINING = Told("on_iteration_end", "training", 3, 1)
VALIDATION = Told("on_iteration_end", "validation-valid", 2, 1)
END = Told("on_epoch_end", "-", 1, 1)
BEYOND = Told("on_iteration_end", "training", 11, 3)


@pytest.mark.parametrize(
    ("told", "times", "is_killed", "wrong"),
    [
        (TRAINING, 2, False, ["on_iteration_end of training iteration 3 2 times in place of 1"]),
        (TRAINING, 0, False, ["on_iteration_end of training iteration 3 0 times in place of 1"]),
        (VALIDATION, 2, False, []),  # it began again
        (VALIDATION, 0, False, ["on_iteration_end of validation-valid iteration 2 0 times in place of 1"]),
        (END, 2, False, ["on_epoch_end of epoch 1 2 times in place of 1"]),
        (TRAINING, 2, True, []),
        (TRAINING, 0, True, ["on_iteration_end of training iteration 3 0 times in place of 1"]),
        (
            Told("on_iteration_end", "training", 11, 3),
            1,
            True,
            ["on_iteration_end of training iteration 11 1 times in place of 0"],
        ),
    ],
)
def test_what_is_told_too_often_or_too_seldom_is_found(trial, told, times, is_killed, wrong):
    others = tuple(one for one in trial.unbroken.told if one != told)
    run = replace(trial.unbroken, told=(*others, *(told for _ in range(times))))
    assert wrong_in(trial, run, is_killed=is_killed) == [("what was told", one) for one in wrong]
