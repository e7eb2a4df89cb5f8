import random

import numpy as np
import torch

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import SeedCapture
from torchbase.randomness.run_randomness import Randomness


def random_numbers_of(hooks=(), seed=1, epochs=2, validation=True, randomness=True):
    drawn = {}

    def step(run, phase, batch):
        numbers = (random.random(), np.random.rand(), torch.rand(()).item())
        drawn.setdefault((phase.name, run.epoch), []).append(numbers)

    run = Run(
        training=Phase("training", [1, 2], is_training=True),
        validation=(Phase("validation-v", [1]),) if validation else (),
        max_epochs=epochs,
        randomness=Randomness(seed) if randomness else None,
    )
    Engine(step, hooks=[SeedCapture(), *hooks]).run(run)
    return drawn


def test_random_numbers_depend_on_seed_phase_and_epoch():
    first = random_numbers_of()
    assert random_numbers_of() == first
    assert len({numbers for phase in first.values() for numbers in phase}) == 6
    assert random_numbers_of(seed=2) != first


def test_validation_and_hooks_between_phases_do_not_change_the_training():
    class Draws:
        @hookimpl
        def on_phase_start(self):
            torch.rand(5)

        @hookimpl
        def on_epoch_end(self):
            random.random()
            np.random.rand(3)

    expected = random_numbers_of(validation=False)
    drawn = random_numbers_of(hooks=[Draws()])
    assert {key: value for key, value in drawn.items() if key[0] == "training"} == expected


def test_without_a_seed_the_streams_are_unchanged():
    torch.manual_seed(5)
    expected = torch.rand(2).tolist()
    torch.manual_seed(5)
    drawn = random_numbers_of(randomness=False, epochs=1, validation=False)
    assert [numbers[2] for numbers in drawn["training", 1]] == expected
