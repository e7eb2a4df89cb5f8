"""The figure of a confusion matrix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchbase.errors import MetricsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
# More would not be legible.
MOST_CLASSES_WITH_NUMBERS = 20
MOST_CLASSES_WITH_NAMES = 60


def draw_confusion_matrix(
    ground_truth: Array, predictions: Array, class_names: Sequence[str], are_rows_normalized: bool
) -> "Figure":
    """Draws how often each class was predicted for each class of the ground truth.

    Args:
        ground_truth: The number of the class of each decision.
        predictions: The number of the class that was predicted for each.
        class_names: The names of all classes.
        are_rows_normalized: Whether a row holds shares of the decisions of its class, in place of counts.

    Returns:
        A figure that belongs to no window, so that no one has to close it.

    Raises:
        MetricsError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MetricsError(
            "The figure confusion_matrix needs Matplotlib, which is not installed. To fix, run: python -m pip install "
            "matplotlib"
        ) from error
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(
        ground_truth,
        predictions,
        labels=np.arange(len(class_names)),
        normalize="true" if are_rows_normalized else None,
    )
    side = min(4 + 0.4 * len(class_names), 16)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1 if are_rows_normalized else max(1, matrix.max()))
    figure.colorbar(image, label="share of the row" if are_rows_normalized else "decisions")
    axes.set_xlabel("predicted")
    axes.set_ylabel("ground truth")
    _name_classes(axes, class_names)
    if len(class_names) <= MOST_CLASSES_WITH_NUMBERS:
        _write_numbers(axes, matrix, are_rows_normalized)
    return figure


def _name_classes(axes: "Axes", class_names: Sequence[str]) -> None:
    if len(class_names) <= MOST_CLASSES_WITH_NAMES:
        places = range(len(class_names))
        axes.set_xticks(places, class_names, rotation=90 if max(map(len, class_names)) > 2 else 0)
        axes.set_yticks(places, class_names)


def _write_numbers(axes: "Axes", matrix: Array, are_shares: bool) -> None:
    for (row, column), number in np.ndenumerate(matrix):
        is_dark = number > matrix.max() / 2
        text = f"{number:.2f}" if are_shares else f"{number:d}"
        axes.text(column, row, text, ha="center", va="center", color="white" if is_dark else "black")
