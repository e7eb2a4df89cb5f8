import math
import re

import numpy as np
import pytest
import torch

from torchbase.errors import MetricsError
from torchbase.metrics import BaseMetricsClass, BinaryClassificationMetrics, ImageReconstructionMetrics
from torchbase.metrics.selection import SelectedMetrics, select_metrics

OUTPUTS = {
    "truth": torch.tensor([0, 1, 1, 0]),
    "probabilities": torch.tensor([0.1, 0.9, 0.2, 0.3]),
    "target_image": torch.zeros(4),
    "output_image": torch.full((4,), 0.1),
    "embedding": torch.rand(7),
}


class ValueMetrics(BaseMetricsClass):
    def value(self, *, given):
        return given

    def scaled(self, *, given, scale=2.0):
        return given * scale

    def failing(self, *, given):
        raise KeyError(given)


class OtherMetrics(BaseMetricsClass):
    def value(self, *, given):
        return -given

    def loss(self, *, given):
        return given


def binary_metrics():
    return BinaryClassificationMetrics({"truth": "binary_ground_truth", "probabilities": "prediction_probabilities"})


def mistakes_of(metrics_classes, chosen):
    with pytest.raises(MetricsError) as caught:
        select_metrics(metrics_classes, chosen)
    heading, *mistakes = str(caught.value).split("\n- ")
    assert heading == "The choice of metrics is wrong:"
    return mistakes


def test_the_chosen_metrics_are_computed_in_the_order_of_the_config():
    chosen = {"ImageReconstructionMetrics": ["psnr"], "BinaryClassificationMetrics": ["roc_auc", "accuracy"]}
    selected = select_metrics([binary_metrics(), ImageReconstructionMetrics()], chosen)
    assert selected.names == ("psnr", "roc_auc", "accuracy")
    values = selected(OUTPUTS)
    assert list(values.items()) == [("psnr", pytest.approx(20.0, abs=1e-4)), ("roc_auc", 0.75), ("accuracy", 0.75)]


@pytest.mark.parametrize("metrics_classes", [None, [], [ImageReconstructionMetrics()]])
def test_without_a_choice_nothing_is_computed(metrics_classes):
    selected = select_metrics(metrics_classes, {})
    assert selected.names == ()
    assert selected({}) == {}


def test_an_argument_with_a_default_is_passed_only_if_forward_pass_returns_it():
    selected = select_metrics([ValueMetrics()], {"ValueMetrics": ["scaled"]})
    assert selected({"given": 3}) == {"scaled": 6.0}
    assert selected({"given": 3, "scale": 5}) == {"scaled": 15.0}


def test_a_class_given_for_an_instance_is_refused():
    mistakes = mistakes_of([ImageReconstructionMetrics], {"ImageReconstructionMetrics": ["psnr"]})
    assert mistakes == [
        "init_metrics returned the class ImageReconstructionMetrics; forgot the parentheses? "
        "ImageReconstructionMetrics()"
    ]


@pytest.mark.parametrize("entry", ["psnr", None, 3, int, torch.nn.MSELoss()])
def test_an_entry_that_is_no_metrics_object_is_refused(entry):
    (mistake,) = mistakes_of([entry], {})
    assert mistake == f"init_metrics returned {entry!r}, which is not an instance of a BaseMetricsClass."


@pytest.mark.parametrize("metrics_classes", [ImageReconstructionMetrics(), {"psnr": 1}, "psnr"])
def test_an_answer_of_init_metrics_that_is_no_list_is_refused(metrics_classes):
    (mistake,) = mistakes_of(metrics_classes, {})
    assert mistake.startswith("init_metrics has to return a list of instances")


def test_a_class_that_init_metrics_does_not_return_is_refused_with_the_nearest():
    (mistake,) = mistakes_of([ImageReconstructionMetrics()], {"ImageReconstructionMetric": ["psnr"]})
    assert mistake == (
        "The config chooses metrics of 'ImageReconstructionMetric', which init_metrics doesn't return. "
        "Did you mean 'ImageReconstructionMetrics'? It returns 'ImageReconstructionMetrics'."
    )


def test_a_choice_without_any_metrics_classes_is_refused():
    (mistake,) = mistakes_of(None, {"ImageReconstructionMetrics": ["psnr"]})
    assert mistake.endswith("which init_metrics doesn't return. It returns nothing.")


def test_one_class_returned_twice_is_refused():
    (mistake,) = mistakes_of([ValueMetrics(), ValueMetrics()], {"ValueMetrics": ["value"]})
    assert "init_metrics returned ValueMetrics twice" in mistake


def test_an_unknown_metric_is_refused_with_the_nearest():
    (mistake,) = mistakes_of([ImageReconstructionMetrics()], {"ImageReconstructionMetrics": ["psnr", "mse_normalised"]})
    assert mistake == (
        "ImageReconstructionMetrics has no metric 'mse_normalised'. Did you mean 'mse_normalized'? "
        "Its metrics are 'psnr', 'mse_normalized', 'ssim'."
    )


def test_two_chosen_metrics_of_one_name_are_refused():
    (mistake,) = mistakes_of([ValueMetrics(), OtherMetrics()], {"ValueMetrics": ["value"], "OtherMetrics": ["value"]})
    assert mistake.startswith("ValueMetrics and OtherMetrics both have the chosen metric 'value'")


def test_metrics_of_one_name_are_fine_where_one_is_chosen():
    selected = select_metrics([ValueMetrics(), OtherMetrics()], {"OtherMetrics": ["value"]})
    assert selected({"given": 3}) == {"value": -3.0}


def test_a_chosen_metric_with_the_name_of_the_loss_is_refused():
    (mistake,) = mistakes_of([OtherMetrics()], {"OtherMetrics": ["loss"]})
    assert mistake == "Metric 'loss' of OtherMetrics has the name of the loss; rename its method."


def test_all_mistakes_are_listed_at_once():
    mistakes = mistakes_of(
        [ImageReconstructionMetrics, "psnr", ValueMetrics(), ValueMetrics(), OtherMetrics()],
        {"ValueMetrics": ["value", "valeu", "zzz"], "OtherMetrics": ["value", "loss"], "Unknown": ["anything"]},
    )
    beginnings = [
        "init_metrics returned the class ImageReconstructionMetrics",
        "init_metrics returned 'psnr'",
        "init_metrics returned ValueMetrics twice",
        "ValueMetrics has no metric 'valeu'. Did you mean 'value'?",
        "ValueMetrics has no metric 'zzz'.",
        "The config chooses metrics of 'Unknown'",
        "ValueMetrics and OtherMetrics both",
        "Metric 'loss' of OtherMetrics",
    ]
    assert len(mistakes) == len(beginnings)
    assert all(mistake.startswith(beginning) for mistake, beginning in zip(mistakes, beginnings, strict=True))


def test_selected_metrics_of_one_name_are_refused_however_they_were_selected():
    functionals = {c: {"value": ValueMetrics().value} for c in ("FirstMetrics", "SecondMetrics")}
    with pytest.raises(MetricsError, match="FirstMetrics and SecondMetrics both have the chosen metric 'value'"):
        SelectedMetrics(functionals)


def test_a_chosen_class_with_a_malformed_metric_is_refused():
    class PositionalMetrics(BaseMetricsClass):
        def value(self, given):
            return given

    with pytest.raises(TypeError, match=r"PositionalMetrics\.value is not keyword-only"):
        select_metrics([PositionalMetrics()], {"PositionalMetrics": ["value"]})


def test_complete_outputs_pass_the_check():
    selected = select_metrics([binary_metrics()], {"BinaryClassificationMetrics": ["accuracy"]})
    assert selected.check_outputs(OUTPUTS) is None


@pytest.mark.parametrize("use", [lambda selected, outputs: selected.check_outputs(outputs), SelectedMetrics.__call__])
def test_keys_that_forward_pass_did_not_return_are_named_with_their_metrics_and_the_nearest(use):
    chosen = {"BinaryClassificationMetrics": ["accuracy", "pr_auc"], "ImageReconstructionMetrics": ["psnr"]}
    selected = select_metrics([binary_metrics(), ImageReconstructionMetrics()], chosen)
    with pytest.raises(MetricsError) as caught:
        use(selected, {"truth": OUTPUTS["truth"], "image_output": OUTPUTS["output_image"], 3: "three"})
    assert str(caught.value).splitlines() == [
        "The chosen metrics ask for keys that forward_pass did not return:",
        "- 'probabilities', for accuracy of BinaryClassificationMetrics, pr_auc of BinaryClassificationMetrics.",
        "- 'target_image', for psnr of ImageReconstructionMetrics.",
        "- 'output_image', for psnr of ImageReconstructionMetrics.",
        "It returned 'truth', 'image_output', 3. Return the missing keys, too, or map those it returns to the "
        'arguments of the metrics: keyword_maps={"key of forward_pass": "argument of the metrics"}.',
    ]


def test_a_missing_key_has_its_nearest_named():
    selected = select_metrics([binary_metrics()], {"BinaryClassificationMetrics": ["accuracy"]})
    with pytest.raises(MetricsError, match=r"'probabilities', for .*\. Did you mean 'probabilites'\?"):
        selected.check_outputs({"truth": OUTPUTS["truth"], "probabilites": OUTPUTS["probabilities"]})


@pytest.mark.parametrize(
    "value",
    [1.5, 3, np.float32(1.5), np.float64(2.5), np.int64(3), torch.tensor(1.5), torch.tensor(3)],
)
def test_a_metric_may_return_any_kind_of_number(value):
    computed = select_metrics([ValueMetrics()], {"ValueMetrics": ["value"]})({"given": value})
    assert computed == {"value": float(value)}
    assert type(computed["value"]) is float


def test_a_metric_may_return_a_tensor_with_a_graph_and_nan():
    selected = select_metrics([ValueMetrics()], {"ValueMetrics": ["value"]})
    assert selected({"given": torch.tensor(1.5, requires_grad=True) * 2}) == {"value": 3.0}
    assert math.isnan(selected({"given": math.nan})["value"])


@pytest.mark.parametrize(
    ("value", "description"),
    [
        (None, "None of type NoneType"),
        ("1.5", "'1.5' of type str"),
        (True, "True of type bool"),
        (1j, "1j of type complex"),
        ([1.5], "[1.5] of type list"),
        (torch.ones(1), "a tensor of shape (1,), torch.float32"),
        (torch.tensor(1j), "a tensor of shape (), torch.complex64"),
    ],
)
def test_a_metric_that_returns_no_number_is_refused(value, description):
    selected = select_metrics([ValueMetrics()], {"ValueMetrics": ["value"]})
    with pytest.raises(MetricsError, match=f"^Metric 'value' of ValueMetrics .*{re.escape(description)}"):
        selected({"given": value})


def test_an_error_in_a_metric_keeps_its_type_and_says_which_metric_it_was():
    selected = select_metrics([ValueMetrics()], {"ValueMetrics": ["value", "failing"]})
    with pytest.raises(KeyError, match="3") as caught:
        selected({"given": 3})
    assert caught.value.__notes__ == ["in metric 'failing' of ValueMetrics"]


def test_an_error_in_a_ready_made_metric_has_a_note():
    selected = select_metrics([ImageReconstructionMetrics()], {"ImageReconstructionMetrics": ["psnr"]})
    with pytest.raises(ValueError, match="Equal shapes are needed") as caught:
        selected({"target_image": torch.rand(2), "output_image": torch.rand(3)})
    assert caught.value.__notes__ == ["in metric 'psnr' of ImageReconstructionMetrics"]
