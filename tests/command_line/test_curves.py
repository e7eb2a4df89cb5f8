import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torchbase.command_line.curves import (
    Scale,
    curves_by_name,
    make_epoch_scale,
    make_scale,
    span_magnitudes,
    thin_out,
)
from torchbase.run_directory.record import Epoch

finite = st.floats(-1e12, 1e12)


def test_averages_become_curves_by_name_and_phase_with_the_loss_first():
    epochs = [
        Epoch(1, "training", 5, {"accuracy": 0.5, "loss": 2.0}),
        Epoch(1, "validation-a", 5, {"loss": 3.0}),
        Epoch(2, "training", 10, {"accuracy": 0.75, "loss": 1.0}),
    ]
    curves = curves_by_name(epochs)
    assert list(curves) == ["loss", "accuracy"]
    assert curves["loss"] == {"training": [(1, 2.0), (2, 1.0)], "validation-a": [(1, 3.0)]}


def test_a_value_measured_within_an_epoch_lies_between_two_epochs():
    within = [Epoch(1 + done // 10, "validation-a", done, {"loss": 1.0}) for done in (4, 8, 12, 24, 25)]
    training = [Epoch(epoch, "training", 10 * epoch, {"loss": 2.0}) for epoch in (1, 2)]
    positions = [position for position, _ in curves_by_name([*within, *training])["loss"]["validation-a"]]
    assert positions == pytest.approx([0.4, 0.8, 1.2, 2.4, 2.5])  # the last two are of an incomplete epoch


@given(st.lists(finite, min_size=1, max_size=20), st.booleans())
def test_a_scale_contains_all_values_and_can_be_inverted(values, is_logarithmic):
    scale = make_scale([list(enumerate(values))], is_logarithmic)
    for value in values:
        position = scale.position(value)
        assert -1e-9 <= position <= 1 + 1e-9
        assert scale.value_at(position) == pytest.approx(value, rel=1e-6, abs=1e-6 * max(map(abs, values)) or 1e-9)


@given(st.floats(1e-9, 1e9), st.floats(1.001, 1e9), st.booleans())
@example(1.000000001, 1.001, True)
def test_ticks_lie_within_the_scale(low, factor, is_logarithmic):
    scale = Scale(low, low * factor, is_logarithmic)
    ticks = scale.ticks(5)
    assert ticks == sorted(ticks)
    assert all(-1e-6 <= scale.position(tick) <= 1 + 1e-6 for tick in ticks)
    assert len(ticks) <= 12
    assert len(ticks) >= (1 if not is_logarithmic or factor > 10 else 0)


def test_ticks_are_round():
    assert Scale(0.0, 1.0).ticks(5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert Scale(1, 12).ticks(6) == [2, 4, 6, 8, 10, 12]
    assert Scale(0.02, 1.2, is_logarithmic=True).ticks(5) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    assert Scale(1e-8, 1.0, is_logarithmic=True).ticks(5)[0] == pytest.approx(1e-8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 19.0], False), ([1.0, 20.0], True), ([0.0, 20.0], False), ([-1.0, 20.0], False), ([], False)],
)
def test_values_of_different_magnitudes_need_a_logarithmic_scale(values, expected):
    assert span_magnitudes([list(enumerate([*values, math.nan, math.inf]))]) is expected


def test_without_finite_values_there_is_no_scale():
    assert make_scale([[(1, math.nan)], []], is_logarithmic=False) is None
    assert make_scale([[(1, 0.0), (2, 4.0)]], is_logarithmic=True) == Scale(0.0, 4.0, is_logarithmic=False)
    assert make_scale([[(1, 2.0)]], is_logarithmic=False) == Scale(1.8, 2.2)
    assert make_scale([[(1, 0.0)]], is_logarithmic=False) == Scale(-1.0, 1.0)


def test_the_epochs_go_from_the_first_to_the_last():
    assert make_epoch_scale([[(3, 1.0), (9, 1.0)], [(2, 1.0)]]) == Scale(2, 9)
    assert make_epoch_scale([[(3, 1.0)]]) == Scale(2.5, 3.5)


def test_a_curve_is_broken_at_values_that_are_not_finite():
    curve = [(1, math.nan), (2, 1.0), (3, 2.0), (4, math.inf), (5, math.nan), (6, 3.0)]
    assert thin_out(curve, 100) == [[(2, 1.0), (3, 2.0)], [(6, 3.0)]]
    assert thin_out([(1, math.nan)], 100) == []


@given(st.lists(finite, min_size=1, max_size=2000), st.integers(1, 100))
def test_a_curve_that_is_thinned_out_has_its_ends_and_extremes(values, columns):
    curve = list(enumerate(values, start=1))
    (piece,) = thin_out(curve, columns)
    assert (piece[0], piece[-1]) == (curve[0], curve[-1])
    assert {min(values), max(values)} <= {value for _, value in piece}
    assert set(piece) <= set(curve)
    assert piece == sorted(piece, key=lambda point: point[0])
    assert len(piece) <= max(2 * columns + 2, 2)
