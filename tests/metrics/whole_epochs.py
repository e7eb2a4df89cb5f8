"""For each family of metrics: random data, and the values that a library computes for all of it at once."""

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sklearn.metrics
import torch

from torchbase.metrics import (
    BinaryClassificationMetrics,
    ImageReconstructionMetrics,
    ImageSegmentationMetrics,
    MulticlassClassificationMetrics,
    MultilabelClassificationMetrics,
    RegressionMetrics,
)
from torchbase.metrics.selection import select_metrics

CLASSES = 4
FEWEST_SAMPLES = CLASSES  # so that each class occurs


@dataclass(frozen=True)
class Family:
    """A family of metrics.

    Attributes:
        make: Creates an instance.
        draw: Draws outputs of forward_pass from a generator and a number of samples.
        whole: For each metric, a function of a library that computes it from NumPy arrays in the order of `draw`.
        figures: The names of the figures.
    """

    make: Any
    draw: Any
    whole: dict[str, Any]
    figures: tuple[str, ...] = field(default=())


def epoch_of(metrics, names, outputs, size, resumed_before=None):
    """Returns the values and figures of an epoch. Saves and loads its state before a mini-batch, if requested."""
    selected = select_metrics([metrics], {type(metrics).__name__: names})
    epoch = selected.begin_epoch()
    parts = zip(*(tensor.split(size) for tensor in outputs.values()), strict=True)
    for number, tensors in enumerate(parts):
        if number == resumed_before:
            epoch = resumed(epoch, selected)
        batch = dict(zip(outputs, tensors, strict=True))
        epoch.add(batch, selected.on_host(batch), len(tensors[0]))
    return epoch.compute()


def resumed(epoch, selected):
    file = io.BytesIO()
    torch.save(epoch.state_dict(), file)
    file.seek(0)
    other = selected.begin_epoch()
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def epoch_value(metrics, name, outputs, size, resumed_before=None):
    return epoch_of(metrics, [name], outputs, size, resumed_before)[0][name]


def whole_value(family, name, outputs):
    return family.whole[name](*(tensor.numpy() for tensor in outputs.values()))


def all_classes(random, samples, classes):
    """Draws classes so that each class occurs."""
    drawn = torch.cat([torch.arange(classes), torch.randint(classes, (samples - classes,), generator=random)])
    return drawn[torch.randperm(samples, generator=random)]


def draw_binary(random, samples):
    truth = all_classes(random, samples, 2)
    probabilities = torch.randint(0, 41, (samples,), generator=random) / 40  # with ties, zeros and ones
    return {"binary_ground_truth": truth, "prediction_probabilities": probabilities}


def at_threshold(function, **options):
    return lambda truth, probabilities: function(truth, (probabilities >= 0.5).astype(int), **options)


def calibration_error(truth, probabilities, bins=15):
    total = 0.0
    for number in range(bins):
        inside = (probabilities > np.float32(number / bins)) & (probabilities <= np.float32((number + 1) / bins))
        inside |= (probabilities == 0) & (number == 0)
        if inside.any():
            total += abs(truth[inside].mean() - probabilities[inside].astype(float).mean()) * inside.mean()
    return total


BINARY = Family(
    BinaryClassificationMetrics,
    draw_binary,
    {
        "precision_micro": at_threshold(sklearn.metrics.precision_score, average="micro"),
        "precision_macro": at_threshold(sklearn.metrics.precision_score, average="macro", zero_division=0),
        "recall_micro": at_threshold(sklearn.metrics.recall_score, average="micro"),
        "recall_macro": at_threshold(sklearn.metrics.recall_score, average="macro", zero_division=0),
        "f1_score_micro": at_threshold(sklearn.metrics.f1_score, average="micro"),
        "f1_score_macro": at_threshold(sklearn.metrics.f1_score, average="macro", zero_division=0),
        "accuracy": at_threshold(sklearn.metrics.accuracy_score),
        "balanced_accuracy": at_threshold(sklearn.metrics.balanced_accuracy_score),
        "roc_auc": sklearn.metrics.roc_auc_score,
        "pr_auc": sklearn.metrics.average_precision_score,
        "brier_score": sklearn.metrics.brier_score_loss,
        "log_loss": sklearn.metrics.log_loss,
        "matthews_correlation": at_threshold(sklearn.metrics.matthews_corrcoef),
        "calibration_error": calibration_error,
    },
)


def draw_probabilities(random, samples):
    # With ties: the logits are multiples of 0.5.
    logits = torch.randint(-6, 7, (samples, CLASSES), generator=random) / 2
    return {"class_ground_truth": all_classes(random, samples, CLASSES), "class_scores": logits.softmax(dim=-1)}


def draw_logits(random, samples):
    logits = torch.randn(samples, CLASSES, generator=random)
    return {"class_ground_truth": all_classes(random, samples, CLASSES), "class_scores": logits}


def softmax(scores):
    return torch.from_numpy(scores).double().softmax(dim=-1).numpy()


def predicted(function, **options):
    return lambda truth, scores: function(truth, scores.argmax(axis=-1), **options)


MULTICLASS_WHOLE = {
    "accuracy": predicted(sklearn.metrics.accuracy_score),
    "top_k_accuracy": lambda t, s: sklearn.metrics.top_k_accuracy_score(t, s, k=2, labels=range(CLASSES)),
    "balanced_accuracy": predicted(sklearn.metrics.balanced_accuracy_score),
    "precision_micro": predicted(sklearn.metrics.precision_score, average="micro"),
    "precision_macro": predicted(sklearn.metrics.precision_score, average="macro", zero_division=0),
    "recall_micro": predicted(sklearn.metrics.recall_score, average="micro"),
    "recall_macro": predicted(sklearn.metrics.recall_score, average="macro", zero_division=0),
    "f1_score_micro": predicted(sklearn.metrics.f1_score, average="micro"),
    "f1_score_macro": predicted(sklearn.metrics.f1_score, average="macro", zero_division=0),
    "roc_auc_one_vs_rest": lambda t, s: sklearn.metrics.roc_auc_score(t, s, multi_class="ovr"),
    "cohen_kappa": predicted(sklearn.metrics.cohen_kappa_score),
    "matthews_correlation": predicted(sklearn.metrics.matthews_corrcoef),
    "log_loss": sklearn.metrics.log_loss,
}
MULTICLASS = Family(
    lambda: MulticlassClassificationMetrics(top_k=2), draw_probabilities, MULTICLASS_WHOLE, ("confusion_matrix",)
)
MULTICLASS_LOGITS = Family(
    lambda: MulticlassClassificationMetrics(top_k=2, scores_are_logits=True),
    draw_logits,
    {name: lambda t, s, whole=whole: whole(t, softmax(s)) for name, whole in MULTICLASS_WHOLE.items()},
    ("confusion_matrix",),
)


def draw_labels_of_samples(random, samples):
    truth = torch.stack([all_classes(random, samples, 2) for _ in range(3)], dim=1)
    probabilities = torch.randint(0, 41, (samples, 3), generator=random) / 40  # with ties, zeros and ones
    return {"label_ground_truth": truth, "label_probabilities": probabilities}


def averaged(function):
    return {average: at_threshold(function, average=average, zero_division=0) for average in ("micro", "macro")}


MULTILABEL = Family(
    MultilabelClassificationMetrics,
    draw_labels_of_samples,
    {
        "subset_accuracy": at_threshold(sklearn.metrics.accuracy_score),
        "hamming_loss": at_threshold(sklearn.metrics.hamming_loss),
        **{f"precision_{name}": one for name, one in averaged(sklearn.metrics.precision_score).items()},
        **{f"recall_{name}": one for name, one in averaged(sklearn.metrics.recall_score).items()},
        **{f"f1_score_{name}": one for name, one in averaged(sklearn.metrics.f1_score).items()},
        "average_precision_micro": lambda t, p: sklearn.metrics.average_precision_score(t, p, average="micro"),
        "average_precision_macro": lambda t, p: sklearn.metrics.average_precision_score(t, p, average="macro"),
        "roc_auc_micro": lambda t, p: sklearn.metrics.roc_auc_score(t, p, average="micro"),
        "roc_auc_macro": lambda t, p: sklearn.metrics.roc_auc_score(t, p, average="macro"),
    },
)


def draw_numbers(random, samples):
    # The mean is much larger than the standard deviation, so plain sums of squares lose the variance.
    target = 1e6 + torch.randn(samples, generator=random, dtype=torch.float64)
    return {"target_values": target, "predicted_values": target + torch.randn(samples, generator=random) / 2}


REGRESSION = Family(
    RegressionMetrics,
    draw_numbers,
    {
        "mean_absolute_error": sklearn.metrics.mean_absolute_error,
        "mean_squared_error": sklearn.metrics.mean_squared_error,
        "root_mean_squared_error": lambda t, p: sklearn.metrics.mean_squared_error(t, p) ** 0.5,
        "r2_score": sklearn.metrics.r2_score,
        "explained_variance": sklearn.metrics.explained_variance_score,
        "median_absolute_error": sklearn.metrics.median_absolute_error,
        "max_error": sklearn.metrics.max_error,
        "mean_absolute_percentage_error": sklearn.metrics.mean_absolute_percentage_error,
        "pearson_correlation": lambda t, p: np.corrcoef(t, p)[0, 1],
    },
)


def draw_images(random, samples):
    target = torch.rand(samples, 2, 12, 13, generator=random)
    output = (target + torch.rand(samples, 1, 1, 1, generator=random) * torch.rand_like(target)).clamp(max=1.0)
    return {"target_image": target, "output_image": output}


def structural_similarity(target, output):
    """Applies the formulas of the paper to each window."""
    distances = np.arange(11) - 5
    window = np.exp(-(distances[:, None] ** 2 + distances**2) / (2 * 1.5**2))
    window /= window.sum()
    windows = (
        np.lib.stride_tricks.sliding_window_view(image.astype(float), (11, 11), (-2, -1)) for image in (target, output)
    )
    x, y = windows
    mean_x, mean_y = ((values * window).sum((-2, -1), keepdims=True) for values in (x, y))
    var_x, var_y, cov = (
        (values * window).sum((-2, -1), keepdims=True)
        for values in ((x - mean_x) ** 2, (y - mean_y) ** 2, (x - mean_x) * (y - mean_y))
    )
    similarity = (2 * mean_x * mean_y + 1e-4) * (2 * cov + 9e-4)
    return (similarity / (mean_x**2 + mean_y**2 + 1e-4) / (var_x + var_y + 9e-4)).mean()


IMAGES = Family(
    ImageReconstructionMetrics,
    draw_images,
    {
        "psnr": lambda t, o: -10 * np.log10(((t.astype(float) - o) ** 2).mean() + 1e-9),
        "mse_normalized": lambda t, o: ((t.astype(float) - o) ** 2).mean() / ((t.astype(float) ** 2).mean() + 1e-9),
        "ssim": structural_similarity,
    },
)


def draw_masks(random, samples):
    target = torch.rand(samples, 3, 4, generator=random) < torch.rand(samples, 1, 1, generator=random)
    target[0, 0, 0] = True
    return {"target_binary_image": target, "output_binary_image": torch.rand(samples, 3, 4, generator=random)}


def draw_labels(random, samples):
    # Of five classes, one never occurs, and one occurs only in the prediction.
    labels = torch.randint(0, 3, (2, samples, 3, 4), generator=random)
    labels[1, 0, 0, 0] = 4
    return {"target_binary_image": labels[0], "output_binary_image": labels[1]}


def flat(function, threshold=None, **options):
    return lambda t, p: function(t.ravel(), (p if threshold is None else p >= threshold).ravel(), **options)


SEGMENTATION = Family(
    ImageSegmentationMetrics,
    draw_masks,
    {
        "dice_score": flat(sklearn.metrics.f1_score, threshold=0.5),
        "iou_score": flat(sklearn.metrics.jaccard_score, threshold=0.5),
    },
)
SEGMENTATION_CLASSES = Family(
    lambda: ImageSegmentationMetrics(num_classes=5),
    draw_labels,
    {
        "dice_score": flat(sklearn.metrics.f1_score, average="macro"),
        "iou_score": flat(sklearn.metrics.jaccard_score, average="macro"),
    },
)

FAMILIES = {
    "binary": BINARY,
    "multiclass": MULTICLASS,
    "multiclass logits": MULTICLASS_LOGITS,
    "multilabel": MULTILABEL,
    "regression": REGRESSION,
    "images": IMAGES,
    "segmentation": SEGMENTATION,
    "segmentation of classes": SEGMENTATION_CLASSES,
}
METRICS = [(name, metric) for name, family in FAMILIES.items() for metric in family.whole]
