import random

import numpy as np
import pytest
import torch

from torchbase.randomness.run_randomness import Randomness
from torchbase.randomness.streams import (
    capture_streams,
    isolate_rng,
    pack_streams,
    restore_streams,
    seed_streams,
    unpack_streams,
)


def draw_from_all():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()


def test_all_streams_draw_the_same_numbers_after_the_same_seed():
    seed_streams(3)
    first = draw_from_all()
    seed_streams(3)
    assert draw_from_all() == first
    seed_streams(4)
    assert all(a != b for a, b in zip(draw_from_all(), first, strict=True))


def test_captured_states_restore_all_streams_also_from_a_file(tmp_path):
    draw_from_all()
    torch.save(pack_streams(capture_streams()), tmp_path / "states.pth")
    expected = [draw_from_all() for _ in range(3)]
    seed_streams(99)
    restore_streams(unpack_streams(torch.load(tmp_path / "states.pth", weights_only=True)))
    assert [draw_from_all() for _ in range(3)] == expected


def test_captured_states_do_not_change_when_the_streams_advance():
    states = capture_streams()
    expected = draw_from_all()
    np.random.rand(1000)  # more than numpy's block of 624 words, after which numpy rewrites its state
    restore_streams(states)
    assert draw_from_all() == expected


def test_isolate_rng_restores_the_streams_even_after_an_error():
    seed_streams(5)
    expected = draw_from_all()
    seed_streams(5)
    with pytest.raises(ZeroDivisionError), isolate_rng():
        _ = draw_from_all()[0] / 0
    assert draw_from_all() == expected


def test_seeding_for_a_purpose_restores_the_streams_afterwards():
    seed_streams(5)
    expected = draw_from_all()
    seed_streams(5)
    randomness = Randomness(7)
    with randomness.seeded("building", "network"):
        first = draw_from_all()
    assert draw_from_all() == expected
    with randomness.seeded("building", "network"):
        assert draw_from_all() == first
    with randomness.seeded("building", "datasets"):
        assert draw_from_all() != first
