"""Methods that compute several values at once."""

import pytest
import torch
from tiny import StopAt, TinySession, config_with
from torch import Tensor

from torchbase.errors import MetricsError
from torchbase.metrics import (
    BaseMetricsClass,
    EpochState,
    accumulated,
    figure_over_samples,
    higher_is_better,
    mean_over_samples,
    several_values,
)
from torchbase.metrics.selection import select_metrics

NAMES = ("lowest", "mean", "highest")


def three_of(values):
    return {"lowest": values.min(), "mean": values.mean(), "highest": float(values.max()), "ignored": "text"}


class OverSamples(BaseMetricsClass):
    calls = 0

    @higher_is_better
    @several_values(*NAMES)
    def three(self, *, values: Tensor):
        self.calls += 1
        return three_of(values)

    def other(self, *, values: Tensor) -> float:
        return float(values.sum())


class Means(BaseMetricsClass):
    calls = 0

    @mean_over_samples
    @several_values(*NAMES)
    def three(self, *, values: Tensor):
        self.calls += 1
        return three_of(values)


class State(EpochState):
    def __init__(self):
        self.lowest, self.total, self.count, self.highest, self.calls = float("inf"), 0.0, 0, float("-inf"), 0

    def update(self, *, values):
        self.lowest, self.highest = min(self.lowest, float(values.min())), max(self.highest, float(values.max()))
        self.total, self.count = self.total + float(values.sum()), self.count + len(values)

    def compute(self):
        self.calls += 1
        return {"lowest": self.lowest, "mean": self.total / self.count, "highest": self.highest}


class FromState(BaseMetricsClass):
    calls = 0

    def _compute(self, state):
        self.calls += 1
        return state.compute()

    @several_values(*NAMES)
    @accumulated(lambda metrics: State())
    def three(self, *, values: Tensor):
        state = State()
        state.update(values=values)
        return state.compute()


VALUES = torch.tensor([1.0, 2.0, 3.0, 10.0, 4.0, 4.0])


@pytest.mark.parametrize("family", [OverSamples, Means, FromState])
@pytest.mark.parametrize("prefix", [None, "head"])
@pytest.mark.parametrize("chosen", [NAMES, ("highest", "lowest"), ("mean",)])
def test_the_config_chooses_values_that_are_computed_by_one_call(family, prefix, chosen):
    metrics = family({"numbers": "values"}, prefix=prefix)
    names = [name if prefix is None else f"{prefix}_{name}" for name in chosen]
    selected = select_metrics([metrics], {family.__name__: names})
    expected = {"lowest": 1.0, "mean": 4.0, "highest": 10.0}
    assert selected({"numbers": VALUES}) == {name: expected[one] for name, one in zip(names, chosen, strict=True)}
    assert metrics.calls == (0 if family is FromState else 1)
    epoch = selected.begin_epoch()
    for part in VALUES.split(2):
        epoch.add({"numbers": part}, selected.on_host({"numbers": part}), 2)
    calls = metrics.calls
    values = epoch.compute()[0]
    means = {"lowest": (1.0 + 3.0 + 4.0) / 3, "mean": 4.0, "highest": (2.0 + 10.0 + 4.0) / 3}
    of_epoch = means if family is Means else expected
    assert values == pytest.approx({name: of_epoch[one] for name, one in zip(names, chosen, strict=True)})
    assert metrics.calls - calls == (1 if family is OverSamples else 0)


def test_the_state_computes_all_values_at_once():
    states = []

    class Counted(FromState):
        @several_values(*NAMES)
        @accumulated(lambda metrics: states.append(State()) or states[-1])
        def three(self, *, values: Tensor):
            return {}

    selected = select_metrics([Counted()], {"Counted": list(NAMES)})
    epoch = selected.begin_epoch()
    epoch.add({"values": VALUES}, {}, 6)
    assert epoch.compute()[0] == {"lowest": 1.0, "mean": 4.0, "highest": 10.0}
    assert [state.calls for state in states] == [1]


def test_the_values_stand_beside_other_metrics_with_their_direction():
    metrics = OverSamples()
    assert list(metrics.get_all_metric_functionals_dict()) == [*NAMES, "other"]
    assert metrics.get_metrics(["mean"])["mean"](values=VALUES) == 4.0
    selected = select_metrics([metrics], {"OverSamples": ["other", "mean"]})
    assert selected.modes == {"other": None, "mean": "max"}
    with pytest.raises(MetricsError, match="no metric 'three'"):
        select_metrics([metrics], {"OverSamples": ["three"]})


@pytest.mark.parametrize("names", [(), ("a", "a"), ("a b",), (1,), ("",)])
def test_wrong_names_are_refused(names):
    with pytest.raises(MetricsError, match="several_values expects the names"):
        several_values(*names)


@pytest.mark.parametrize(
    ("returned", "found"), [({"lowest": 1.0}, "a dictionary of 'lowest'"), (3.0, "3.0|float"), ({}, "dictionary")]
)
def test_a_missing_value_is_named(returned, found):
    class Lacks(BaseMetricsClass):
        @several_values("lowest", "highest")
        def two(self, *, values: Tensor):
            return returned

    selected = select_metrics([Lacks()], {"Lacks": ["highest"]})
    with pytest.raises(MetricsError, match=rf"Lacks\.two is declared .*'highest'.* but returned .*({found})") as caught:
        selected({"values": VALUES})
    assert "in metric 'highest' of Lacks" in caught.value.__notes__


def test_a_value_that_is_not_a_number_is_refused():
    class Text(BaseMetricsClass):
        @several_values("mean")
        def one(self, *, values: Tensor):
            return {"mean": "high"}

    selected = select_metrics([Text()], {"Text": ["mean"]})
    with pytest.raises(MetricsError, match="'mean' of Text has to return a number"):
        selected({"values": VALUES})


def test_a_figure_is_not_one_of_several_values():
    class Drawn(BaseMetricsClass):
        @several_values("a", "b")
        @figure_over_samples
        def two(self, *, values: Tensor):
            return {}

    with pytest.raises(MetricsError, match=r"Drawn\.two is declared with @several_values and @figure_over_samples"):
        select_metrics([Drawn()], {"Drawn": ["a"]})


def test_two_metrics_of_one_name_are_refused():
    class Twice(OverSamples):
        def mean(self, *, values: Tensor) -> float:
            return 0.0

    with pytest.raises(MetricsError, match="Twice has two metrics 'mean'"):
        select_metrics([Twice()], {"Twice": ["highest"]})


class Session(TinySession):
    def init_metrics(self):
        keys = {"output": "values"}
        return [OverSamples(keys), FromState(keys, prefix="state")]


def test_a_run_with_several_values_resumes_exactly(tmp_path):
    chosen = {"OverSamples": list(NAMES), "FromState": ["state_highest", "state_mean"]}
    config = config_with(metrics_every_n_iterations=1) | {"metrics": chosen}
    expected = Session(config, tmp_path / "whole")().averages
    assert expected["training"]["highest"] == expected["training"]["state_highest"]
    assert expected["validation-valid"]["mean"] == pytest.approx(expected["validation-valid"]["state_mean"])
    stopped = Session(config, tmp_path / "resumed")
    stopped.register(StopAt(7))
    stopped()
    assert Session.resume(tmp_path / "resumed")().averages == expected
