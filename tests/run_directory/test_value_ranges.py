import json
import math

from hypothesis import given
from hypothesis import strategies as st

from torchbase.run_directory.record import Epoch
from torchbase.run_directory.value_ranges import ValueRange, extend, from_json, to_json

NAN = math.nan


def ranges_of(*values):
    return extend({}, [Epoch(epoch, "training", epoch, {"loss": value}) for epoch, value in enumerate(values, 1)])


def range_of(*values):
    return ranges_of(*values)["training"]["loss"]


def test_a_range_has_the_last_lowest_and_highest_value_with_their_epochs():
    assert range_of(2.0, 1.0, 3.0, 1.0) == ValueRange(1.0, 4, 1.0, 2, 3.0, 3)
    assert range_of(0.5) == ValueRange(0.5, 1, 0.5, 1, 0.5, 1)


def test_nan_is_the_lowest_and_highest_only_without_another_value():
    assert repr(range_of(NAN, NAN)) == repr(ValueRange(NAN, 2, NAN, 1, NAN, 1))
    assert range_of(NAN, 2.0) == ValueRange(2.0, 2, 2.0, 2, 2.0, 2)
    assert repr(range_of(2.0, NAN)) == repr(ValueRange(NAN, 2, 2.0, 1, 2.0, 1))
    assert range_of(-math.inf, math.inf) == ValueRange(math.inf, 2, -math.inf, 1, math.inf, 2)


def test_phases_and_values_are_apart_and_the_given_ranges_stay():
    first = ranges_of(1.0)
    both = extend(first, [Epoch(2, "training", 2, {"accuracy": 0.5}), Epoch(2, "validation-valid", 2, {"loss": 3.0})])
    assert set(both["training"]) == {"loss", "accuracy"}
    assert both["training"]["loss"] == first["training"]["loss"]
    assert both["validation-valid"]["loss"].last == 3.0
    assert first == ranges_of(1.0)


@given(st.lists(st.floats(), max_size=6), st.lists(st.floats(), max_size=6))
def test_a_range_does_not_depend_on_how_it_was_extended(first, second):
    later = [Epoch(len(first) + epoch, "training", 1, {"loss": value}) for epoch, value in enumerate(second, 1)]
    whole = ranges_of(*first, *second)
    assert repr(extend(ranges_of(*first), later)) == repr(whole)
    assert repr(from_json(json.loads(json.dumps(to_json(whole), allow_nan=False)))) == repr(whole)
