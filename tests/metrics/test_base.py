import inspect
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import torchbase.metrics
from torchbase.errors import MetricsError
from torchbase.metrics import BaseMetricsClass

KEYS = st.from_regex(r"key_[a-z]{1,5}", fullmatch=True)


class CountingMetrics(BaseMetricsClass):
    some_constant = 3

    def __init__(self, keyword_maps=None, offset=0.0):
        super().__init__(keyword_maps)
        self._offset = offset

    def difference(self, *, counted: Tensor, expected: Tensor) -> float:
        """Returns the difference between the counted and the expected number."""
        return float((counted - expected).sum()) + self._offset

    @staticmethod
    def count(*, counted: Tensor) -> float:
        return float(counted.sum())

    @classmethod
    def scaled_count(cls, *, counted: Tensor, scale: float = 2.0) -> float:
        return float(counted.sum()) * scale

    def get_offset(self, position):
        return self._offset

    def _helper(self, position):
        return position

    @property
    def offset(self):
        return self._offset


class ThreeArguments(BaseMetricsClass):
    def join(self, *, first, second, third):
        return (first, second, third)


class PositionalMetrics(BaseMetricsClass):
    def good(self, *, counted):
        return 0.0

    def bad(self, counted, *, expected):
        return 0.0


def test_metrics_are_the_public_methods_in_the_order_of_definition():
    assert list(CountingMetrics().get_all_metric_functionals_dict()) == ["difference", "count", "scaled_count"]


def test_a_subclass_has_the_metrics_of_its_base_class_and_can_drop_them():
    class MoreMetrics(CountingMetrics):
        count = None

        def another(self, *, expected):
            return 7.0

    assert list(MoreMetrics().get_all_metric_functionals_dict()) == ["difference", "scaled_count", "another"]


def test_without_keyword_maps_the_keys_are_the_names_of_the_arguments():
    difference = CountingMetrics(offset=0.5).get_all_metric_functionals_dict()["difference"]
    assert list(inspect.signature(difference).parameters) == ["counted", "expected"]
    assert difference(counted=torch.tensor([3.0, 4.0]), expected=torch.tensor([1.0, 1.0])) == 5.5


def test_a_mapped_metric_takes_the_keys_of_forward_pass():
    functionals = CountingMetrics({"cells": "counted"}).get_all_metric_functionals_dict()
    assert functionals["difference"](cells=torch.tensor(3.0), expected=torch.tensor(1.0)) == 2.0
    assert functionals["count"](cells=torch.tensor(3.0)) == 3.0
    assert functionals["scaled_count"](cells=torch.tensor(3.0)) == 6.0
    assert functionals["scaled_count"](cells=torch.tensor(3.0), scale=3.0) == 9.0


def test_the_signature_of_a_mapped_metric_shows_keys_kinds_defaults_and_annotations():
    functionals = CountingMetrics({"cells": "counted", "factor": "scale"}).get_all_metric_functionals_dict()
    signature = inspect.signature(functionals["scaled_count"])
    assert list(signature.parameters) == ["cells", "factor"]
    assert {parameter.kind for parameter in signature.parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert signature.parameters["factor"].default == 2.0
    assert signature.parameters["cells"].annotation is Tensor
    assert signature.return_annotation is float


def test_a_mapped_metric_has_the_name_and_docstring_of_its_method():
    difference = CountingMetrics({"cells": "counted"}).get_all_metric_functionals_dict()["difference"]
    assert difference.__name__ == "difference"
    assert difference.__doc__ == "Returns the difference between the counted and the expected number."


@settings(max_examples=30)
@given(
    keys=st.lists(KEYS, min_size=3, max_size=3, unique=True),
    mapped=st.sets(st.sampled_from(["first", "second", "third"])),
    values=st.tuples(st.integers(), st.integers(), st.integers()),
)
def test_each_argument_has_the_value_of_its_key(keys, mapped, values):
    arguments = ["first", "second", "third"]
    key_of_argument = {
        argument: key if argument in mapped else argument for argument, key in zip(arguments, keys, strict=True)
    }
    keyword_maps = {key_of_argument[argument]: argument for argument in mapped}
    join = ThreeArguments(keyword_maps).get_metrics(["join"])["join"]
    assert list(inspect.signature(join).parameters) == list(key_of_argument.values())
    outputs = dict(zip(key_of_argument.values(), values, strict=True))
    assert join(**dict(reversed(outputs.items()))) == values


@settings(max_examples=30)
@given(order=st.permutations(["first", "second", "third"]))
def test_keys_may_be_the_names_of_other_arguments(order):
    keyword_maps = dict(zip(order, ["first", "second", "third"], strict=True))
    join = ThreeArguments(keyword_maps).get_metrics(["join"])["join"]
    assert list(inspect.signature(join).parameters) == list(order)
    assert join(first="first", second="second", third="third") == tuple(order)


def test_later_changes_of_keyword_maps_have_no_effect():
    keyword_maps = {"cells": "counted"}
    metrics = CountingMetrics(keyword_maps)
    keyword_maps.clear()
    assert metrics.get_metrics(["count"])["count"](cells=torch.tensor(3.0)) == 3.0


def test_a_subclass_without_keyword_maps_need_not_call_the_base_init():
    class OwnMetrics(BaseMetricsClass):
        def __init__(self):
            self._value = 4.0

        def value(self, *, counted):
            return self._value

    assert OwnMetrics().get_metrics(["value"])["value"](counted=0) == 4.0


def test_get_metrics_returns_the_named_metrics_in_the_order_of_the_names():
    assert list(CountingMetrics().get_metrics(["count", "difference"])) == ["count", "difference"]


def test_get_metrics_names_each_unknown_metric_with_the_nearest_known_name():
    with pytest.raises(MetricsError) as caught:
        CountingMetrics().get_metrics(["count", "diference", "zzz"])
    first, second = str(caught.value).splitlines()
    assert "no metric 'diference'. Did you mean 'difference'?" in first
    assert "no metric 'zzz'. Available: 'difference', 'count', 'scaled_count'." in second


@pytest.mark.parametrize("get", [lambda m: m.get_all_metric_functionals_dict(), lambda m: m.get_metrics(["good"])])
def test_a_public_method_with_a_positional_parameter_is_refused(get):
    metrics = PositionalMetrics()
    with pytest.raises(TypeError, match=r"'counted' of PositionalMetrics\.bad has to be keyword-only"):
        get(metrics)


@pytest.mark.parametrize("method", [lambda self, *values: 0.0, lambda self, **values: 0.0])
def test_a_public_method_with_a_variable_number_of_arguments_is_refused(method):
    metrics = type("VariableMetrics", (BaseMetricsClass,), {"vary": method})()
    with pytest.raises(TypeError, match=r"\*values' of VariableMetrics\.vary has to be keyword-only"):
        metrics.get_all_metric_functionals_dict()


def test_a_call_without_a_required_key_names_the_metric_and_its_signature():
    count = CountingMetrics({"cells": "counted"}).get_metrics(["count"])["count"]
    with pytest.raises(TypeError, match=r"CountingMetrics\.count\(\*, cells: .*missing a required .*'cells'"):
        count()


def test_a_call_with_an_unknown_key_is_refused():
    count = CountingMetrics({"cells": "counted"}).get_metrics(["count"])["count"]
    with pytest.raises(TypeError, match=r"CountingMetrics\.count.*'counted'"):
        count(cells=torch.tensor(3.0), counted=torch.tensor(3.0))


@pytest.mark.parametrize("keyword_maps", [[("cells", "counted")], "counted", 3])
def test_keyword_maps_that_are_not_a_mapping_are_refused(keyword_maps):
    with pytest.raises(TypeError, match="keyword_maps of CountingMetrics have to be a mapping"):
        CountingMetrics(keyword_maps)


@pytest.mark.parametrize("keyword_maps", [{3: "counted"}, {"cells": 3}, {"cells": ["counted"]}])
def test_keyword_maps_of_other_types_than_strings_are_refused(keyword_maps):
    with pytest.raises(TypeError, match="both have to be strings"):
        CountingMetrics(keyword_maps)


@pytest.mark.parametrize("key", ["number of cells", "", "class", "2nd"])
def test_a_key_that_is_not_a_valid_argument_name_is_refused(key):
    with pytest.raises(MetricsError, match=f"{key!r} is not a valid name of a keyword argument"):
        CountingMetrics({key: "counted"})


def test_a_key_mapped_to_an_unknown_argument_is_refused_with_the_nearest_known_name():
    expected = (
        "map 'cells' to 'count_ed', but no metric has an argument of that name. Did you mean 'counted'? "
        "Available: 'counted', 'expected', 'scale'"
    )
    with pytest.raises(MetricsError, match=re.escape(expected)):
        CountingMetrics({"cells": "count_ed"})


def test_two_keys_mapped_to_the_same_argument_are_refused():
    with pytest.raises(MetricsError, match="map 'others' to 'counted', but 'cells' is already mapped to 'counted'"):
        CountingMetrics({"cells": "counted", "others": "counted"})


def test_a_key_mapped_to_two_arguments_of_a_metric_is_refused():
    with pytest.raises(
        MetricsError, match=r"'counted' of forward_pass is mapped to two arguments .* 'counted' and 'expected'"
    ):
        CountingMetrics({"counted": "expected"})


def test_the_package_exports_the_metrics_classes_and_all_that_declares_a_metric():
    assert torchbase.metrics.__all__ == sorted(torchbase.metrics.__all__)
    others = {"EpochState", "accumulated", "figure_over_samples", "mean_over_samples"}
    others |= {"higher_is_better", "lower_is_better", "several_values"}
    classes = [getattr(torchbase.metrics, name) for name in torchbase.metrics.__all__ if name not in others]
    assert others < set(torchbase.metrics.__all__)
    assert all(issubclass(metrics_class, BaseMetricsClass) for metrics_class in classes)
