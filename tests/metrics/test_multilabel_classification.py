"""Multilabel metrics, compared with those of scikit-learn."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from tiny import TinySession, config_with

from torchbase.errors import MetricsError
from torchbase.metrics import MultilabelClassificationMetrics
from torchbase.metrics.selection import select_metrics

NAMES = ("cat", "dog", "bird")
FAMILY = "MultilabelClassificationMetrics"


def outputs_of(truth, probabilities):
    return {"label_ground_truth": torch.as_tensor(truth), "label_probabilities": torch.as_tensor(probabilities)}


def random_outputs(samples, labels=3, seed=0, share=0.5, levels=None):
    generator = np.random.default_rng(seed)
    probabilities = generator.random((samples, labels))
    if levels is not None:  # ties
        probabilities = np.round(probabilities * levels) / levels
    return outputs_of((generator.random((samples, labels)) < share).astype(np.int64), probabilities)


def expected_values(truth, probabilities, threshold=0.5):
    """The values of scikit-learn, without those that it can't compute."""
    decided = (probabilities >= threshold).astype(int)
    scores = {"precision": sklearn.precision_score, "recall": sklearn.recall_score, "f1_score": sklearn.f1_score}
    areas = {"average_precision": sklearn.average_precision_score, "roc_auc": sklearn.roc_auc_score}
    values = {
        "subset_accuracy": sklearn.accuracy_score(truth, decided),
        "hamming_loss": sklearn.hamming_loss(truth, decided),
    }
    for name, score in scores.items():
        for average in ("micro", "macro"):
            values[f"{name}_{average}"] = score(truth, decided, average=average, zero_division=0)
        of_labels = score(truth, decided, average=None, zero_division=0)
        values |= {f"{name}_{label}": value for label, value in zip(NAMES, of_labels, strict=True)}
    is_mixed = {label: 0 < truth[:, index].mean() < 1 for index, label in enumerate(NAMES)}
    for name, area in areas.items():
        for index, label in enumerate(NAMES):
            if is_mixed[label]:
                values[f"{name}_{label}"] = area(truth[:, index], probabilities[:, index])
        if all(is_mixed.values()):
            values |= {
                f"{name}_{average}": area(truth, probabilities, average=average) for average in ("micro", "macro")
            }
    return values


def computed(outputs, **options):
    family = MultilabelClassificationMetrics(label_names=NAMES, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return {name: metric(**outputs) for name, metric in family.get_all_metric_functionals_dict().items()}


@settings(max_examples=30)
@given(
    st.integers(1, 40),
    st.integers(0, 10**6),
    st.sampled_from([0.05, 0.5, 0.95]),
    st.sampled_from([None, 4]),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_the_values_equal_those_of_scikit_learn(samples, seed, share, levels, threshold):
    outputs = random_outputs(samples, seed=seed, share=share, levels=levels)
    truth, probabilities = (outputs[key].numpy() for key in outputs)
    found = computed(outputs, threshold=threshold)
    for name, value in expected_values(truth, probabilities, threshold).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_every_metric_is_compared():
    outputs = random_outputs(40)
    assert expected_values(*(value.numpy() for value in outputs.values())).keys() == computed(outputs).keys()


@pytest.mark.parametrize("sizes", [[40], [13, 13, 13, 1], [1] * 40])
def test_the_values_of_an_epoch_are_those_of_all_samples(sizes):
    outputs, family = random_outputs(40), MultilabelClassificationMetrics(label_names=NAMES)
    selected = select_metrics([family], {FAMILY: list(family.get_all_metric_functionals_dict())})
    measured, added = selected.begin_epoch(), selected.begin_epoch()
    split = zip(*(one.split(sizes) for one in outputs.values()), strict=True)
    parts = [dict(zip(outputs, part, strict=True)) for part in split]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for part, size in zip(parts, sizes, strict=True):
            measured.measure(part, selected.on_host(part), size)
            added.add(part, selected.on_host(part), size)
            again = selected.begin_epoch()
            again.load_state_dict(added.state_dict())
            added = again
    assert measured.compute()[0] == pytest.approx(computed(outputs), abs=1e-12)
    assert added.compute()[0] == measured.compute()[0]


@pytest.mark.parametrize("truth_type", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32])
@pytest.mark.parametrize("type_", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_real_dtype_is_accepted(truth_type, type_):
    outputs = random_outputs(20, levels=4)  # exact in all of these
    cast = outputs_of(outputs["label_ground_truth"].to(truth_type), outputs["label_probabilities"].to(type_))
    assert computed(cast) == pytest.approx(computed(outputs))


@pytest.mark.parametrize("type_", [torch.float32, torch.float64])
def test_a_probability_that_equals_the_threshold_predicts_the_label(type_):
    outputs = outputs_of([[1, 0]], torch.tensor([[0.7, 0.1]], dtype=type_))
    family = MultilabelClassificationMetrics(threshold=0.7)
    assert family.subset_accuracy(**outputs) == 1.0


@pytest.mark.parametrize(
    ("truth", "undefined"),
    [
        ([[0, 0, 0], [0, 0, 0]], {"average_precision", "roc_auc"}),
        ([[1, 1, 1], [1, 1, 1]], {"roc_auc"}),
    ],
)
def test_areas_of_a_single_value_are_nan_with_a_warning(truth, undefined):
    outputs, family = outputs_of(truth, [[0.5, 0.2, 0.1]] * 2), MultilabelClassificationMetrics(label_names=NAMES)
    for name, metric in family.get_all_metric_functionals_dict().items():
        if name.removesuffix("_micro").removesuffix("_macro").removesuffix("_cat") in undefined:
            with pytest.warns(UserWarning, match=f"^{name} of {FAMILY} is NaN: the ground truth"):
                assert np.isnan(metric(**outputs))


@pytest.mark.parametrize(
    ("truth", "probabilities", "error", "message"),
    [
        ([[0, 2]], [[0.1, 0.2]], ValueError, "only zeros and ones, but 1 of its 2 values are neither"),
        ([[0, 1]], [[0.1, 1.2]], ValueError, "from 0 to 1, but 1 of its 2 values are not.*sigmoid"),
        ([[0, 1]], [[0.1, float("nan")]], ValueError, "has to be finite"),
        ([[0, 1]], [[0, 1]], TypeError, "label_probabilities .* floating-point dtype"),
        ([[0j, 1j]], [[0.1, 0.2]], TypeError, "has to have a real dtype"),
        ([[0, 1]], [[0.1, 0.2, 0.3]], ValueError, "have to be equal"),
        ([0, 1], [0.1, 0.2], ValueError, r"shape \(samples, labels\)"),
        ([[0], [1]], [[0.1], [0.2]], ValueError, "for one label, use BinaryClassificationMetrics"),
        (np.zeros((0, 2)), np.zeros((0, 2)), ValueError, "At least one value"),
    ],
)
def test_arguments_out_of_range_are_refused_by_each_metric(truth, probabilities, error, message):
    family = MultilabelClassificationMetrics()
    for metric in family.get_all_metric_functionals_dict().values():
        with pytest.raises(error, match=message):
            metric(**outputs_of(truth, probabilities))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": 1.5}, ValueError, "probability from 0 to 1, but got 1.5"),
        ({"threshold": "0.5"}, TypeError, "threshold has to be a number"),
        ({"label_names": "cat"}, TypeError, "label_names have to be a list of strings"),
        ({"label_names": [1, 2]}, TypeError, "label_names have to be a list of strings"),
        ({"label_names": ["a", "a"]}, MetricsError, "contain 'a' more than once"),
        ({"label_names": ["a", "b c"]}, MetricsError, "The name of a label is 'b c'"),
        ({"label_names": ["a", "micro"]}, MetricsError, "make a metric 'average_precision_micro'"),
    ],
)
def test_wrong_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        MultilabelClassificationMetrics(**options)


def test_another_number_of_labels_than_names_is_refused():
    family = MultilabelClassificationMetrics(label_names=["cat", "dog"])
    for metric in family.get_all_metric_functionals_dict().values():
        with pytest.raises(ValueError, match="has 3 labels, but 2 are expected"):
            metric(**random_outputs(5))


def test_mini_batches_of_different_numbers_of_labels_are_refused():
    selected = select_metrics([MultilabelClassificationMetrics()], {FAMILY: ["subset_accuracy"]})
    epoch = selected.begin_epoch()
    epoch.add(random_outputs(5), {}, 5)
    with pytest.raises(ValueError, match="has 4 labels, but 3 are expected"):
        epoch.add(random_outputs(5, labels=4), {}, 5)


def test_a_session_logs_the_metrics_of_labels_with_a_prefix(tmp_path):
    class Labels(TinySession):
        def forward_pass(self, mini_batch):
            x = mini_batch["x"]
            return {**super().forward_pass(mini_batch), "has": x > 0, "probability": x.sigmoid()}

        def init_metrics(self):
            keys = {"has": "label_ground_truth", "probability": "label_probabilities"}
            return [MultilabelClassificationMetrics(keys, label_names=NAMES, prefix="sign")]

    chosen = ["sign_subset_accuracy", "sign_recall_dog", "sign_roc_auc_cat"]
    averages = Labels(config_with() | {"metrics": {FAMILY: chosen}}, tmp_path)().averages
    assert {name: averages["validation-valid"][name] for name in chosen} == dict.fromkeys(chosen, 1.0)
