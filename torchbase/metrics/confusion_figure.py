"""The figure of a confusion matrix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchbase.errors import MetricsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
# More are not legible.
MOST_CLASSES_WITH_NUMBERS = 20
MOST_CLASSES_WITH_NAMES = 60


def draw_confusion_matrix(
    ground_truth: Array, predictions: Array, class_names: Sequence[str], are_rows_normalized: bool
) -> "Figure":
    """Draws the confusion matrix: rows are classes of the ground truth, columns are predicted classes.

    Args:
        ground_truth: The class index of each sample.
        predictions: The predicted class index of each sample.
        class_names: The names of all classes.
        are_rows_normalized: Whether a row contains shares of the samples of its class instead of counts.

    Returns:
        A figure outside of ``pyplot``. It doesn't have to be closed.

    Raises:
        MetricsError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MetricsError(
            "The metric confusion_matrix needs Matplotlib, which is not installed. To fix, run: python -m pip install "
            "matplotlib"
        ) from error
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    matrix = confusion_matrix(
        ground_truth,
        predictions,
        labels=np.arange(len(class_names)),
        normalize="true" if are_rows_normalized else None,
    )
    side = min(4 + 0.4 * len(class_names), 16)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    ConfusionMatrixDisplay(matrix, display_labels=class_names).plot(
        ax=axes,
        cmap="Blues",
        include_values=len(class_names) <= MOST_CLASSES_WITH_NUMBERS,
        values_format=".2f" if are_rows_normalized else "d",
        xticks_rotation="vertical" if max(map(len, class_names)) > 2 else "horizontal",
        im_kw={"vmin": 0, "vmax": 1 if are_rows_normalized else max(1, matrix.max())},
    )
    if len(class_names) > MOST_CLASSES_WITH_NAMES:
        axes.set(xticks=[], yticks=[])
    return figure
