"""Checks for each metric of each family: of any shape, the value is that of scikit-learn, or the shape is refused."""

import numpy as np
import pytest
import sklearn.metrics
import torch
from metrics.whole_epochs import BINARY, MULTICLASS, REGRESSION, SEGMENTATION, epoch_value

SAMPLES, LABELS = 24, 3
ONE_PREDICTION_PER_VALUE = [(SAMPLES,), (SAMPLES, 1), (4, 2, 3), (2, 1, 4, 3)]


def outputs_of(family, shape, seed=0):
    samples = int(np.prod(shape))
    outputs = family.draw(torch.Generator().manual_seed(seed), samples)
    return {key: tensor.reshape(*shape, *tensor.shape[1:]) for key, tensor in outputs.items()}


def flat_value(family, name, outputs, dims):
    return family.whole[name](*(tensor.flatten(end_dim=dims - 1).numpy() for tensor in outputs.values()))


def nearly(value):
    return pytest.approx(value, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("shape", ONE_PREDICTION_PER_VALUE)
@pytest.mark.parametrize(
    ("family", "name"),
    [(family, name) for family in (BINARY, MULTICLASS, REGRESSION) for name in family.whole],
)
def test_each_value_is_one_prediction(family, name, shape):
    outputs = outputs_of(family, shape)
    assert epoch_value(family.make(), name, outputs, size=2) == nearly(flat_value(family, name, outputs, len(shape)))


@pytest.mark.parametrize("samples", [1, 2, SAMPLES])
@pytest.mark.parametrize("name", BINARY.whole)
def test_binary_metrics_refuse_several_labels_and_say_what_to_use(name, samples):
    outputs = outputs_of(BINARY, (samples, LABELS))
    with pytest.raises(
        ValueError, match=rf"binary_ground_truth \(shape \({samples}, 3\).* has 3 labels .* flatten"
    ) as raised:
        BINARY.make().get_metrics([name])[name](**outputs)
    assert "use MultilabelClassificationMetrics" in str(raised.value)


def of_outputs(function):
    """Computes the mean over the outputs of a metric that scikit-learn has for one output only."""
    return lambda target, predicted: np.mean([function(*pair) for pair in zip(target.T, predicted.T, strict=True)])


REGRESSION_OF_OUTPUTS = {
    "mean_absolute_error": sklearn.metrics.mean_absolute_error,
    "mean_squared_error": sklearn.metrics.mean_squared_error,
    "root_mean_squared_error": sklearn.metrics.root_mean_squared_error,
    "r2_score": sklearn.metrics.r2_score,
    "explained_variance": sklearn.metrics.explained_variance_score,
    "median_absolute_error": sklearn.metrics.median_absolute_error,
    "max_error": lambda target, predicted: np.abs(target - predicted).max(),
    "mean_absolute_percentage_error": sklearn.metrics.mean_absolute_percentage_error,
    "pearson_correlation": of_outputs(lambda target, predicted: np.corrcoef(target, predicted)[0, 1]),
}


@pytest.mark.parametrize("size", [1, 5, SAMPLES])
@pytest.mark.parametrize("name", REGRESSION.whole)
def test_regression_of_several_outputs_equals_that_of_scikit_learn(name, size):
    random = torch.Generator().manual_seed(1)
    scales = torch.tensor([1.0, 1e3, 1e-3])
    target = torch.randn(SAMPLES, LABELS, generator=random, dtype=torch.float64) * scales + 2 * scales
    predicted = target + torch.randn(SAMPLES, LABELS, generator=random, dtype=torch.float64) * scales / 2
    value = epoch_value(
        REGRESSION.make(), name, {"target_values": target, "predicted_values": predicted}, size, resumed_before=1
    )
    assert value == nearly(REGRESSION_OF_OUTPUTS[name](target.numpy(), predicted.numpy()))


@pytest.mark.parametrize(
    ("truth", "scores"),
    [
        ((SAMPLES, 1), (SAMPLES, 4)),
        ((SAMPLES, 4), (SAMPLES, 4)),  # one-hot
        ((2, 3, 5), (2, 4, 3, 5)),  # the classes in the second dimension, as in the losses of torch
        ((SAMPLES,), (4, SAMPLES)),
        ((SAMPLES,), (SAMPLES,)),
    ],
)
@pytest.mark.parametrize("name", MULTICLASS.whole)
def test_multiclass_metrics_refuse_other_shapes(name, truth, scores):
    with pytest.raises(
        ValueError, match=r"class_scores \(shape .* has to have the shape of class_ground_truth \(shape"
    ):
        MULTICLASS.make().get_metrics([name])[name](
            class_ground_truth=torch.zeros(truth).long(), class_scores=torch.zeros(scores).softmax(-1)
        )


@pytest.mark.parametrize("name", SEGMENTATION.whole)
def test_segmentation_of_several_labels_is_the_micro_average_of_scikit_learn(name):
    function = {"dice_score": sklearn.metrics.f1_score, "iou_score": sklearn.metrics.jaccard_score}[name]
    truth = torch.randint(2, (SAMPLES, LABELS), generator=torch.Generator().manual_seed(2))
    scores = torch.rand(SAMPLES, LABELS, generator=torch.Generator().manual_seed(3))
    outputs = {"target_binary_image": truth, "output_binary_image": scores}
    expected = function(truth.numpy(), (scores >= 0.5).int().numpy(), average="micro")
    assert epoch_value(SEGMENTATION.make(), name, outputs, size=5) == nearly(expected)
