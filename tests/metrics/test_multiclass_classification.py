import math
import re
import sys

import numpy as np
import pytest
import sklearn.metrics
import torch

from torchbase.errors import MetricsError
from torchbase.metrics import MulticlassClassificationMetrics
from torchbase.metrics.selection import select_metrics

TRUTH = torch.tensor([0, 0, 1, 1, 2])
SCORES = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.7, 0.1, 0.2], [0.1, 0.3, 0.6]])
# The predictions are 0 1 1 0 2.
BY_HAND = {
    "accuracy": 3 / 5,
    "top_k_accuracy": 3 / 5,
    "balanced_accuracy": (1 / 2 + 1 / 2 + 1) / 3,
    "precision_micro": 3 / 5,
    "precision_macro": (1 / 2 + 1 / 2 + 1) / 3,
    "recall_micro": 3 / 5,
    "recall_macro": (1 / 2 + 1 / 2 + 1) / 3,
    "f1_score_micro": 3 / 5,
    "f1_score_macro": (1 / 2 + 1 / 2 + 1) / 3,
    # Pairs in the correct order: 4 of 6 for class 0, 3 of 6 for class 1 (0.8 and 0.1 against 0.3, 0.5 and 0.3), and
    # all 4 for class 2.
    "roc_auc_one_vs_rest": (4 / 6 + 3 / 6 + 4 / 4) / 3,
    # The agreement by chance is (2 * 2 + 2 * 2 + 1) / 25.
    "cohen_kappa": (3 / 5 - 9 / 25) / (1 - 9 / 25),
    "matthews_correlation": (3 * 5 - 9) / (25 - 9),
    "log_loss": -sum(map(math.log, (0.6, 0.2, 0.8, 0.1, 0.6))) / 5,
}
NAMES = list(BY_HAND)
NEED_PROBABILITIES = ["roc_auc_one_vs_rest", "log_loss"]


def compute(name, truth, scores, top_k=2, **settings):
    functional = MulticlassClassificationMetrics(top_k=top_k, **settings).get_metrics([name])[name]
    return functional(class_ground_truth=truth, class_scores=scores)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_has_the_value_computed_by_hand(name):
    value = compute(name, TRUTH, SCORES)
    assert type(value) is float
    assert value == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
def test_logits_yield_the_same_values_as_their_probabilities(name):
    assert compute(name, TRUTH, SCORES.log() + 3, scores_are_logits=True) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NEED_PROBABILITIES])
def test_most_metrics_accept_any_scores(name):
    assert compute(name, TRUTH, 10 * SCORES - 7) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(5, 1), (1, 5), (1, 5, 1)])
def test_the_shape_of_the_samples_does_not_matter(name, shape):
    assert compute(name, TRUTH.reshape(shape), SCORES.reshape(*shape, 3)) == pytest.approx(BY_HAND[name])


def test_a_single_sample_may_have_no_dimension():
    assert compute("accuracy", torch.tensor(1), torch.tensor([0.25, 0.75])) == 1.0
    assert compute("log_loss", torch.tensor(1), torch.tensor([0.25, 0.75])) == pytest.approx(-math.log(0.75))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32], ids=str)
def test_the_ground_truth_may_be_of_any_integer_dtype(name, dtype):
    assert compute(name, TRUTH.to(dtype), SCORES) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
def test_metrics_take_mapped_keys(name):
    keyword_maps = {"label": "class_ground_truth", "probabilities": "class_scores"}
    functional = MulticlassClassificationMetrics(keyword_maps, top_k=2).get_metrics([name])[name]
    assert functional(label=TRUTH, probabilities=SCORES) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", NAMES)
def test_scores_may_require_gradients(name):
    scores = SCORES.clone().requires_grad_()
    assert compute(name, TRUTH, scores) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", ["roc_auc_one_vs_rest", "log_loss", "accuracy"])
def test_two_classes_are_enough(name):
    truth, scores = torch.tensor([0, 1, 1]), torch.tensor([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    expected = {
        "roc_auc_one_vs_rest": sklearn.metrics.roc_auc_score(truth, scores[:, 1]),
        "log_loss": -math.log(0.7 * 0.4 * 0.8) / 3,
        "accuracy": 2 / 3,
    }
    assert compute(name, truth, scores, top_k=1) == pytest.approx(expected[name])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_equal_scores_have_the_order_of_scikit_learn(k):
    random = torch.Generator().manual_seed(k)
    truth, scores = torch.randint(4, (50,), generator=random), torch.randint(3, (50, 4), generator=random).float()
    expected = sklearn.metrics.top_k_accuracy_score(truth, scores, k=k, labels=range(4))
    assert compute("top_k_accuracy", truth, scores, top_k=k) == pytest.approx(expected)


def test_macro_averages_exclude_classes_that_never_occur():
    truth, scores = torch.tensor([0, 2]), torch.eye(9)[[0, 3]]
    assert compute("precision_macro", truth, scores) == pytest.approx(1 / 3)
    assert compute("recall_macro", truth, scores) == pytest.approx(1 / 3)
    assert compute("balanced_accuracy", truth, scores) == pytest.approx(1 / 2)


def test_many_classes_that_occur_once_cause_no_warning():
    truth = torch.arange(200)
    for name in NAMES:
        if name not in ("roc_auc_one_vs_rest", "log_loss"):
            assert compute(name, truth, torch.eye(200)) == pytest.approx(1.0), name


def test_a_few_classes_of_many_samples_equal_those_of_scikit_learn():
    random = torch.Generator().manual_seed(0)
    truth, scores = torch.randint(3, (1000,), generator=random), torch.rand(1000, 3, generator=random)
    expected = sklearn.metrics.f1_score(truth, scores.argmax(dim=1), average="macro")
    assert compute("f1_score_macro", truth, scores) == pytest.approx(expected)


def test_a_single_class_has_no_kappa_and_a_matthews_correlation_of_zero():
    truth, scores = torch.zeros(3).long(), torch.eye(3)[[0, 0, 0]]
    with pytest.warns(UserWarning, match="^cohen_kappa of .* is NaN: .* only the class 0, but at least two"):
        assert math.isnan(compute("cohen_kappa", truth, scores))
    assert compute("matthews_correlation", truth, scores) == 0.0
    assert compute("cohen_kappa", truth, scores.flip(1)) == 0.0


def test_the_area_is_nan_if_a_class_is_missing_and_the_warning_names_the_class():
    with pytest.warns(UserWarning, match="^roc_auc_one_vs_rest of .* NaN: 1 of the 3 classes .* class 1"):
        assert math.isnan(compute("roc_auc_one_vs_rest", torch.tensor([0, 2]), SCORES[:2]))


@pytest.mark.parametrize(
    ("dtype", "are_logits", "most"),
    [(torch.float32, False, 15.942385), (torch.float64, False, 36.043653), (torch.float32, True, 36.043653)],
)
def test_the_log_loss_of_a_certain_but_wrong_prediction_is_finite(dtype, are_logits, most):
    scores = torch.tensor([[1.0, 0.0]], dtype=dtype) * (1000 if are_logits else 1)
    assert compute("log_loss", torch.tensor([1]), scores, scores_are_logits=are_logits) == pytest.approx(most)


@pytest.mark.parametrize("name", NEED_PROBABILITIES)
@pytest.mark.parametrize("scores", [SCORES * 2, SCORES - 1, SCORES.log()])
def test_scores_that_are_not_probabilities_are_refused_if_probabilities_are_needed(name, scores):
    with pytest.raises(ValueError, match=r"have to be probabilities .* with scores_are_logits=True"):
        compute(name, TRUTH, scores)


@pytest.mark.parametrize("name", NEED_PROBABILITIES)
def test_probabilities_in_half_precision_need_not_sum_to_exactly_one(name):
    scores = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)).softmax(dim=-1).bfloat16()
    truth = torch.arange(50) % 40
    assert compute(name, truth, scores) == pytest.approx(
        compute(
            name,
            truth,
            scores.double(),
        ),
        abs=0.05,
    )


@pytest.mark.parametrize("name", [*NAMES, "confusion_matrix"])
@pytest.mark.parametrize(
    ("truth", "scores", "error", "message"),
    [
        ([0, 1], SCORES, TypeError, "class_ground_truth has to be a torch.Tensor, but got list: [0, 1]"),
        (TRUTH, None, TypeError, "class_scores has to be a torch.Tensor, but got NoneType"),
        (TRUTH.float(), SCORES, TypeError, "class_ground_truth (shape (5,), torch.float32) has to contain class ind"),
        (TRUTH, SCORES.long(), TypeError, "class_scores (shape (5, 3), torch.int64) has to have a floating-point"),
        (
            TRUTH,
            SCORES.T,
            ValueError,
            "class_scores (shape (3, 5), torch.float32) has to have the shape of class_ground_truth (shape (5,), "
            "torch.int64) plus a last dimension",
        ),
        (TRUTH, SCORES[:, 0], ValueError, "class_scores (shape (5,), torch.float32) has to have the shape of class_gr"),
        (TRUTH, SCORES[:, :1], ValueError, "at least two classes"),
        (torch.tensor(0), torch.tensor(0.5), ValueError, "at least two classes"),
        (TRUTH[:0], SCORES[:0], ValueError, "got empty tensors: class_ground_truth (shape (0,), torch.int64)"),
        (
            TRUTH + 1,
            SCORES,
            ValueError,
            "has to contain classes from 0 to 2, since class_scores has 3 classes, but they range",
        ),
        (TRUTH - 1, SCORES, ValueError, "but they range from -1 to 1"),
        (
            TRUTH,
            SCORES / 0,
            ValueError,
            "class_scores (shape (5, 3), torch.float32) has to be finite, but 15 of its",
        ),
    ],
)
def test_invalid_tensors_are_refused_with_a_description(name, truth, scores, error, message):
    with pytest.raises(error, match=re.escape(message)):
        compute(name, truth, scores)


def test_a_top_k_of_all_classes_is_refused():
    with pytest.raises(ValueError, match=r"has 3 classes, but top_k is 5, .* create the metrics with a top_k"):
        MulticlassClassificationMetrics().top_k_accuracy(class_ground_truth=TRUTH, class_scores=SCORES)


@pytest.mark.parametrize("name", ["accuracy", "top_k_accuracy"])
def test_mini_batches_with_different_numbers_of_classes_are_refused(name):
    metrics = MulticlassClassificationMetrics(top_k=1)
    selected = select_metrics([metrics], {"MulticlassClassificationMetrics": [name]})
    epoch = selected.begin_epoch()
    epoch.add({"class_ground_truth": TRUTH, "class_scores": SCORES}, {}, 5)
    with pytest.raises(ValueError, match="have 2 classes, but those of the previous mini-batches have 3"):
        epoch.add({"class_ground_truth": torch.tensor([0]), "class_scores": torch.rand(1, 2)}, {}, 1)


@pytest.mark.parametrize("top_k", ["5", 2.0, True, None])
def test_a_top_k_that_is_not_an_integer_is_refused(top_k):
    with pytest.raises(TypeError, match=f"top_k has to be an integer of at least 1, but got {top_k!r}"):
        MulticlassClassificationMetrics(top_k=top_k)


def test_a_top_k_below_one_is_refused():
    with pytest.raises(ValueError, match="top_k has to be at least 1, but got 0"):
        MulticlassClassificationMetrics(top_k=0)


@pytest.mark.parametrize("names", ["abc", [1, 2]])
def test_class_names_that_are_not_a_list_of_strings_are_refused(names):
    with pytest.raises(TypeError, match="class_names have to be a list of strings"):
        MulticlassClassificationMetrics(class_names=names)


def figure_of_epoch(**settings):
    metrics = MulticlassClassificationMetrics(**settings)
    selected = select_metrics([metrics], {"MulticlassClassificationMetrics": ["confusion_matrix"]})
    epoch = selected.begin_epoch()
    for truth, scores in zip(TRUTH.split(2), SCORES.split(2), strict=True):
        outputs = {"class_ground_truth": truth, "class_scores": scores}
        epoch.add(outputs, selected.on_host(outputs), len(truth))
    values, figures = epoch.compute()
    assert values == {}
    return figures["confusion_matrix"]


def displayed_matrix(figure):
    return figure.axes[0].images[0].get_array()


def test_the_confusion_matrix_of_an_epoch_is_a_figure():
    matplotlib = pytest.importorskip("matplotlib")
    figure = figure_of_epoch()
    assert isinstance(figure, matplotlib.figure.Figure)
    assert np.array_equal(displayed_matrix(figure), [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "0", "1", "1", "0", "0", "0", "1"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0", "1", "2"]
    figure.canvas.draw()


def test_the_rows_of_the_confusion_matrix_may_be_shares_and_the_classes_have_names():
    pytest.importorskip("matplotlib")
    figure = figure_of_epoch(class_names=["cat", "dog", "bird"], normalize_confusion_rows=True)
    assert np.allclose(displayed_matrix(figure), [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    assert figure.axes[0].texts[0].get_text() == "0.50"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["cat", "dog", "bird"]
    figure.canvas.draw()


def test_a_confusion_matrix_of_many_classes_has_no_numbers_and_no_window():
    pytest.importorskip("matplotlib")
    figure = compute("confusion_matrix", torch.arange(100), torch.eye(100))
    assert len(figure.axes[0].texts) == 0
    assert max(figure.get_size_inches()) < 20
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_different_number_of_class_names_than_classes_is_refused():
    with pytest.raises(ValueError, match="each of the 3 classes, but got 2"):
        compute("confusion_matrix", TRUTH, SCORES, class_names=["cat", "dog"])


def test_a_missing_matplotlib_is_reported_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MetricsError, match=r"needs Matplotlib, .* run: python -m pip install matplotlib"):
        compute("confusion_matrix", TRUTH, SCORES)
