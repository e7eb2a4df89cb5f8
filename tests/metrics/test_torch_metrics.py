import inspect
import sys

import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.whole_epochs import epoch_value

from torchbase.errors import MetricsError
from torchbase.metrics import TorchMetrics
from torchbase.metrics.selection import select_metrics

torchmetrics = pytest.importorskip("torchmetrics")


def named_metrics():
    return {
        "accuracy": torchmetrics.classification.BinaryAccuracy(),
        "area": torchmetrics.classification.BinaryAUROC(),  # its state contains lists of tensors
        "error": torchmetrics.MeanSquaredError(),
        "both": torchmetrics.MeanSquaredError() + torchmetrics.MeanAbsoluteError(),
        "smoothed": torchmetrics.wrappers.BootStrapper(torchmetrics.MeanSquaredError(), num_bootstraps=2, std=False),
        "average": torchmetrics.MeanMetric(),
    }


def draw(samples, seed):
    random = torch.Generator().manual_seed(seed)
    target = torch.arange(samples) % 2
    return {"preds": torch.rand(samples, generator=random), "target": target}


VALUE_OF_ALL_SAMPLES = {
    "accuracy": lambda p, t: sklearn.metrics.accuracy_score(t, p > 0.5),
    "area": lambda p, t: sklearn.metrics.roc_auc_score(t, p),
    "error": lambda p, t: sklearn.metrics.mean_squared_error(t, p),
    "both": lambda p, t: sklearn.metrics.mean_squared_error(t, p) + sklearn.metrics.mean_absolute_error(t, p),
}


@pytest.mark.parametrize("name", VALUE_OF_ALL_SAMPLES)
@settings(max_examples=10)
@given(samples=st.integers(2, 20), size=st.integers(1, 21), seed=st.integers(0, 1000), resumed_before=st.integers(0, 5))
def test_an_epoch_has_the_value_of_all_samples(name, samples, size, seed, resumed_before):
    outputs = draw(samples, seed)
    expected = VALUE_OF_ALL_SAMPLES[name](*(tensor.numpy() for tensor in outputs.values()))
    assert epoch_value(TorchMetrics(named_metrics()), name, outputs, size, resumed_before) == pytest.approx(
        expected, abs=1e-6
    )


def test_the_metrics_are_named_and_have_the_arguments_of_their_update():
    metrics = TorchMetrics(
        {**named_metrics(), "weighted": torchmetrics.MeanMetric()}, {"scores": "preds", "weights": "weight"}
    )
    selected = select_metrics([metrics], {"TorchMetrics": ["weighted", "error"]})
    assert selected.names == ("weighted", "error")
    outputs = {"scores": torch.zeros(2), "target": torch.ones(2), "value": torch.tensor([1.0, 4.0])}
    assert selected(outputs) == {"weighted": 2.5, "error": 1.0}
    assert selected({**outputs, "weights": torch.tensor([2.0, 1.0])}) == {"weighted": 2.0, "error": 1.0}


def test_all_names_are_listed_and_documented():
    functionals = TorchMetrics(named_metrics()).get_all_metric_functionals_dict()
    assert list(functionals) == list(named_metrics())
    assert functionals["area"].__doc__ == "Returns the value of BinaryAUROC of torchmetrics."
    assert functionals["area"].__name__ == "area"


def test_an_unknown_name_is_refused_with_the_nearest_name():
    with pytest.raises(MetricsError, match=r"TorchMetrics has no metric 'eror'. Did you mean 'error'\?"):
        select_metrics([TorchMetrics(named_metrics())], {"TorchMetrics": ["eror"]})


def test_mini_batches_do_not_accumulate_outside_an_epoch():
    error = TorchMetrics(named_metrics()).get_metrics(["error"])["error"]
    assert error(preds=torch.zeros(2), target=torch.ones(2)) == 1.0
    assert error(preds=torch.zeros(2), target=torch.zeros(2)) == 0.0


def test_the_original_metrics_do_not_change_and_their_state_is_ignored():
    original = torchmetrics.MeanSquaredError()
    original.update(torch.zeros(1), torch.full((1,), 10.0))
    outputs = {"preds": torch.zeros(4), "target": torch.ones(4)}
    assert epoch_value(TorchMetrics({"error": original}), "error", outputs, 2) == 1.0
    assert original.compute() == 100.0


def test_epochs_of_several_phases_are_separate():
    selected = select_metrics([TorchMetrics(named_metrics())], {"TorchMetrics": ["error"]})
    first, second = selected.begin_epoch(), selected.begin_epoch()
    first.add({"preds": torch.zeros(1), "target": torch.ones(1)}, {}, 1)
    second.add({"preds": torch.zeros(1), "target": torch.zeros(1)}, {}, 1)
    assert first.compute()[0] == {"error": 1.0}
    assert second.compute()[0] == {"error": 0.0}


def test_a_saved_state_does_not_change_with_the_epoch():
    selected = select_metrics([TorchMetrics(named_metrics())], {"TorchMetrics": ["error"]})
    epoch, other = selected.begin_epoch(), selected.begin_epoch()
    epoch.add({"preds": torch.zeros(1), "target": torch.ones(1)}, {}, 1)
    state = epoch.state_dict()
    other.load_state_dict(state)
    for values in (epoch, other):
        values.add({"preds": torch.zeros(1), "target": torch.zeros(1)}, {}, 1)
        assert values.compute()[0] == {"error": 0.5}
    third = selected.begin_epoch()
    third.load_state_dict(state)
    assert third.compute()[0] == {"error": 1.0}


def test_each_object_has_its_own_metrics():
    class OtherTorchMetrics(TorchMetrics):
        pass

    first, second = (
        TorchMetrics({"error": named_metrics()["error"]}),
        OtherTorchMetrics({"area": named_metrics()["area"]}),
    )
    selected = select_metrics([first, second], {"TorchMetrics": ["error"], "OtherTorchMetrics": ["area"]})
    assert selected(draw(4, seed=0)).keys() == {"error", "area"}
    assert list(first.get_all_metric_functionals_dict()) == ["error"]
    assert isinstance(first, TorchMetrics)
    assert TorchMetrics({}).get_all_metric_functionals_dict() == {}


def test_a_network_inside_a_metric_is_copied_once_for_all_mini_batches(monkeypatch):
    copies = []
    clone = torchmetrics.Metric.clone
    monkeypatch.setattr(torchmetrics.Metric, "clone", lambda metric: copies.append(metric) or clone(metric))
    error = TorchMetrics(named_metrics()).get_metrics(["error"])["error"]
    for _ in range(3):
        error(preds=torch.zeros(2), target=torch.ones(2))
    assert len(copies) == 1


def test_half_precision_is_accepted():
    outputs = {"preds": torch.tensor([0.5, 1.0]).bfloat16(), "target": torch.zeros(2).bfloat16()}
    assert epoch_value(TorchMetrics(named_metrics()), "error", outputs, 1) == pytest.approx(0.625)


def test_a_metric_of_several_values_is_refused_when_it_is_computed():
    metrics = TorchMetrics({"per_class": torchmetrics.classification.MulticlassRecall(num_classes=3, average=None)})
    outputs = {"preds": torch.tensor([0, 1, 2]), "target": torch.tensor([0, 1, 1])}
    with pytest.raises(MetricsError, match=r"'per_class' of TorchMetrics .* a tensor of shape \(3,\)"):
        epoch_value(metrics, "per_class", outputs, 2)


def test_torchmetrics_warns_at_the_end_of_the_epoch():
    outputs = {"preds": torch.rand(3), "target": torch.zeros(3).int()}
    with pytest.warns(UserWarning, match="No positive samples in targets"):
        assert epoch_value(TorchMetrics(named_metrics()), "area", outputs, 2) == 0.0


@pytest.mark.parametrize("name", ["both", "smoothed"])
def test_a_metric_of_other_metrics_has_their_arguments(name):
    functional = TorchMetrics(named_metrics(), {"scores": "preds"}).get_metrics([name])[name]
    assert list(inspect.signature(functional).parameters) == ["scores", "target"]


def test_a_metric_without_named_arguments_is_refused():
    class Empty(torchmetrics.Metric):
        def update(self, *values):
            pass

        def compute(self):
            return torch.tensor(0.0)

    with pytest.raises(TypeError, match="The update of the metric 'empty', Empty, has no named arguments"):
        TorchMetrics({"empty": Empty()})


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (
            [torchmetrics.MeanMetric()],
            TypeError,
            "needs a dictionary from names to metrics of torchmetrics, but got list",
        ),
        ({"loss": torch.nn.MSELoss()}, TypeError, "'loss' of TorchMetrics has to be an instance .* but got MSELoss"),
        ({"a": torchmetrics.MeanMetric}, TypeError, "'a' of TorchMetrics has to be an instance .* but got"),
        (
            {"all": torchmetrics.MetricCollection([torchmetrics.MeanMetric()])},
            TypeError,
            "got MetricCollection.* pass the metrics of a MetricCollection one by one",
        ),
        ({"get_mean": torchmetrics.MeanMetric()}, MetricsError, "'get_mean' is not a valid name"),
        ({"_mean": torchmetrics.MeanMetric()}, MetricsError, "'_mean' is not a valid name"),
        ({"mean value": torchmetrics.MeanMetric()}, MetricsError, "'mean value' is not a valid name"),
        ({3: torchmetrics.MeanMetric()}, MetricsError, "3 is not a valid name"),
    ],
)
def test_invalid_metrics_are_refused(metrics, error, message):
    with pytest.raises(error, match=message):
        TorchMetrics(metrics)


def test_a_key_mapped_to_an_unknown_argument_is_refused():
    with pytest.raises(MetricsError, match=r"map 'scores' to 'predz', .* Did you mean 'preds'\?"):
        TorchMetrics(named_metrics(), {"scores": "predz"})


def test_a_missing_torchmetrics_is_reported_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(MetricsError, match=r"not installed\. To fix, run: python -m pip install torchmetrics"):
        TorchMetrics({})
