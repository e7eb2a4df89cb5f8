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
    def value(self, *, value):
        return value

    def scaled(self, *, value, scale=2.0):
        return value * scale

    def failing(self, *, value):
        raise KeyError(value)


class OtherMetrics(BaseMetricsClass):
    def value(self, *, value):
        return -value

    def loss(self, *, value):
        return value


def binary_metrics():
    return BinaryClassificationMetrics({"truth": "binary_ground_truth", "probabilities": "prediction_probabilities"})


def problems_of(metrics_classes, chosen):
    with pytest.raises(MetricsError) as caught:
        select_metrics(metrics_classes, chosen)
    heading, *problems = str(caught.value).split("\n- ")
    assert heading == "The choice of metrics is not valid:"
    return problems


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
    assert selected({"value": 3}) == {"scaled": 6.0}
    assert selected({"value": 3, "scale": 5}) == {"scaled": 15.0}


def test_a_class_instead_of_an_instance_is_refused():
    problems = problems_of([ImageReconstructionMetrics], {"ImageReconstructionMetrics": ["psnr"]})
    assert problems == [
        "init_metrics returned the class ImageReconstructionMetrics instead of an instance. To fix, return "
        "ImageReconstructionMetrics()."
    ]


@pytest.mark.parametrize("entry", ["psnr", None, 3, int, torch.nn.MSELoss()])
def test_an_entry_that_is_not_an_instance_of_a_metrics_class_is_refused(entry):
    (problem,) = problems_of([entry], {})
    assert problem == f"init_metrics returned {entry!r}, which is not an instance of a BaseMetricsClass."


@pytest.mark.parametrize("metrics_classes", [ImageReconstructionMetrics(), {"psnr": 1}, "psnr"])
def test_a_return_value_of_init_metrics_that_is_not_a_list_is_refused(metrics_classes):
    (problem,) = problems_of(metrics_classes, {})
    assert problem.startswith("init_metrics has to return a list of instances")


def test_a_class_that_init_metrics_does_not_return_is_refused_with_the_nearest_name():
    (problem,) = problems_of([ImageReconstructionMetrics()], {"ImageReconstructionMetric": ["psnr"]})
    assert problem == (
        "The config chooses metrics of 'ImageReconstructionMetric', but init_metrics doesn't return it. "
        "Did you mean 'ImageReconstructionMetrics'? It returns 'ImageReconstructionMetrics'."
    )


def test_a_choice_without_any_metrics_classes_is_refused():
    (problem,) = problems_of(None, {"ImageReconstructionMetrics": ["psnr"]})
    assert problem.endswith("but init_metrics doesn't return it. It returns nothing.")


def test_two_instances_of_a_class_are_refused():
    (problem,) = problems_of([ValueMetrics(), ValueMetrics()], {"ValueMetrics": ["value"]})
    assert "init_metrics returned ValueMetrics twice" in problem


def test_an_unknown_metric_is_refused_with_the_nearest_name():
    (problem,) = problems_of([ImageReconstructionMetrics()], {"ImageReconstructionMetrics": ["psnr", "mse_normalised"]})
    assert problem == (
        "ImageReconstructionMetrics has no metric 'mse_normalised'. Did you mean 'mse_normalized'? "
        "Available: 'psnr', 'mse_normalized', 'ssim'."
    )


def test_two_chosen_metrics_of_the_same_name_are_refused():
    (problem,) = problems_of([ValueMetrics(), OtherMetrics()], {"ValueMetrics": ["value"], "OtherMetrics": ["value"]})
    assert problem.startswith("ValueMetrics and OtherMetrics both have the chosen metric 'value'")


def test_metrics_of_the_same_name_are_valid_if_only_one_is_chosen():
    selected = select_metrics([ValueMetrics(), OtherMetrics()], {"OtherMetrics": ["value"]})
    assert selected({"value": 3}) == {"value": -3.0}


def test_a_chosen_metric_with_the_name_of_the_loss_is_refused():
    (problem,) = problems_of([OtherMetrics()], {"OtherMetrics": ["loss"]})
    assert problem == "The metric 'loss' of OtherMetrics has the name of the loss. To fix, rename the method."


def test_all_problems_are_listed_at_once():
    problems = problems_of(
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
        "The metric 'loss' of OtherMetrics",
    ]
    assert len(problems) == len(beginnings)
    assert all(problem.startswith(beginning) for problem, beginning in zip(problems, beginnings, strict=True))


def test_selected_metrics_refuse_two_metrics_of_the_same_name():
    functionals = {c: {"value": ValueMetrics().value} for c in ("FirstMetrics", "SecondMetrics")}
    with pytest.raises(MetricsError, match="FirstMetrics and SecondMetrics both have the chosen metric 'value'"):
        SelectedMetrics(functionals)


def test_a_chosen_class_with_an_invalid_metric_is_refused():
    class PositionalMetrics(BaseMetricsClass):
        def value(self, value):
            return value

    with pytest.raises(TypeError, match=r"PositionalMetrics\.value has to be keyword-only"):
        select_metrics([PositionalMetrics()], {"PositionalMetrics": ["value"]})


def test_complete_outputs_pass_the_check():
    selected = select_metrics([binary_metrics()], {"BinaryClassificationMetrics": ["accuracy"]})
    assert selected.check_outputs(OUTPUTS) is None


@pytest.mark.parametrize("use", [lambda selected, outputs: selected.check_outputs(outputs), SelectedMetrics.__call__])
def test_missing_keys_are_listed_with_the_metrics_that_need_them(use):
    chosen = {"BinaryClassificationMetrics": ["accuracy", "pr_auc"], "ImageReconstructionMetrics": ["psnr"]}
    selected = select_metrics([binary_metrics(), ImageReconstructionMetrics()], chosen)
    with pytest.raises(MetricsError) as caught:
        use(selected, {"truth": OUTPUTS["truth"], "image_output": OUTPUTS["output_image"], 3: "three"})
    assert str(caught.value).splitlines() == [
        "The chosen metrics need keys that forward_pass did not return:",
        "- 'probabilities', for accuracy of BinaryClassificationMetrics, pr_auc of BinaryClassificationMetrics.",
        "- 'target_image', for psnr of ImageReconstructionMetrics.",
        "- 'output_image', for psnr of ImageReconstructionMetrics.",
        "It returned 'truth', 'image_output', 3. To fix, return the missing keys, or map the returned keys to the "
        'arguments of the metrics: keyword_maps={"key of forward_pass": "argument of the metrics"}.',
    ]


def test_a_missing_key_is_listed_with_the_nearest_returned_key():
    selected = select_metrics([binary_metrics()], {"BinaryClassificationMetrics": ["accuracy"]})
    with pytest.raises(MetricsError, match=r"'probabilities', for .*\. Did you mean 'probabilites'\?"):
        selected.check_outputs({"truth": OUTPUTS["truth"], "probabilites": OUTPUTS["probabilities"]})


@pytest.mark.parametrize(
    "value",
    [1.5, 3, np.float32(1.5), np.float64(2.5), np.int64(3), torch.tensor(1.5), torch.tensor(3)],
)
def test_a_metric_may_return_any_type_of_number(value):
    computed = select_metrics([ValueMetrics()], {"ValueMetrics": ["value"]})({"value": value})
    assert computed == {"value": float(value)}
    assert type(computed["value"]) is float


def test_a_metric_may_return_a_tensor_with_a_graph_and_nan():
    selected = select_metrics([ValueMetrics()], {"ValueMetrics": ["value"]})
    assert selected({"value": torch.tensor(1.5, requires_grad=True) * 2}) == {"value": 3.0}
    assert math.isnan(selected({"value": math.nan})["value"])


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
def test_a_metric_that_does_not_return_a_number_is_refused(value, description):
    selected = select_metrics([ValueMetrics()], {"ValueMetrics": ["value"]})
    with pytest.raises(MetricsError, match=f"^The metric 'value' of ValueMetrics .*{re.escape(description)}"):
        selected({"value": value})


def test_an_error_in_a_metric_has_its_type_and_a_note_with_the_name_of_the_metric():
    selected = select_metrics([ValueMetrics()], {"ValueMetrics": ["value", "failing"]})
    with pytest.raises(KeyError, match="3") as caught:
        selected({"value": 3})
    assert caught.value.__notes__ == ["in metric 'failing' of ValueMetrics"]


def test_an_error_in_a_predefined_metric_has_a_note():
    selected = select_metrics([ImageReconstructionMetrics()], {"ImageReconstructionMetrics": ["psnr"]})
    with pytest.raises(ValueError, match="have to be equal") as caught:
        selected({"target_image": torch.rand(2), "output_image": torch.rand(3)})
    assert caught.value.__notes__ == ["in metric 'psnr' of ImageReconstructionMetrics"]
