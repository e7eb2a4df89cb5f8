"""Records, which logging backends write. They share no memory with the training.

They are created in the main thread, and another thread can write them later: tensors are copied to the host, and
figures are drawn, since matplotlib isn't thread-safe.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from torchbase.errors import HookError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Layout = Mapping[str, Mapping[str, Sequence[str]]]

BINS = 64

_NEAR = 1e-6
_BYTES_OF_A_RECORD = 300
_BYTES_OF_A_NUMBER = 150


class Scalars(NamedTuple):
    """The numbers of one step.

    Attributes:
        values: Numbers by tag.
        step: The iteration or epoch they belong to; the first is 1.
        time: When they were logged, in seconds since 1970.
    """

    values: Mapping[str, float]
    step: int
    time: float


class HyperParameters(NamedTuple):
    """The settings with which a run was made, and its final metrics.

    Attributes:
        values: Numbers, strings and booleans by name.
        metrics: Final values by tag.
        time: When they were logged, in seconds since 1970.
    """

    values: Mapping[str, Any]
    metrics: Mapping[str, float]
    time: float


class Text(NamedTuple):
    """A text.

    Attributes:
        tag: The name of the panel.
        text: Markdown.
        step: The iteration or epoch it belongs to.
        time: When it was logged, in seconds since 1970.
    """

    tag: str
    text: str
    step: int
    time: float


class Image(NamedTuple):
    """An image, or a drawn figure.

    Attributes:
        tag: The name of the panel.
        pixels: Bytes, shape (height, width, channels), 1 or 3 channels.
        step: The iteration or epoch it belongs to.
        time: When it was logged, in seconds since 1970.
        is_figure: Whether it is a matplotlib figure.
    """

    tag: str
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    step: int
    time: float
    is_figure: bool = False


class Histogram(NamedTuple):
    """Values whose distribution is shown.

    Attributes:
        tag: The name of the panel.
        values: Finite numbers, shape (count,), at least one.
        step: The iteration or epoch they belong to.
        time: When they were logged, in seconds since 1970.
    """

    tag: str
    values: np.ndarray[Any, np.dtype[np.floating[Any]]]
    step: int
    time: float

    def binned(self) -> tuple[list[int], list[float]]:
        """Counts the values in bins of equal width.

        Returns:
            The counts and the edges of the bins, one edge more than counts. The number of bins is fixed: bins that fit
            the values best may be billions if a single value is far away.
        """
        low, high = float(self.values.min()), float(self.values.max())
        scale = max(abs(low), abs(high))
        if high - low <= _NEAR * scale:  # numpy can't divide such a narrow range
            margin = max(0.5, _NEAR * scale)
            low, high = low - margin, high + margin
        counts, edges = np.histogram(self.values.astype(np.float64), BINS, (low, high))
        return counts.tolist(), edges.tolist()


class ChartLayout(NamedTuple):
    """Which curves are shown together.

    Attributes:
        layout: The tags of each chart, by category and chart.
        time: When it was logged, in seconds since 1970.
    """

    layout: Layout
    time: float


class Graph(NamedTuple):
    """The operations of a network.

    Attributes:
        content: TensorBoard's protocol buffer ``GraphDef``.
        time: When it was logged, in seconds since 1970.
    """

    content: bytes
    time: float


Record = Scalars | HyperParameters | Text | Image | Histogram | ChartLayout | Graph


def image_record(tag: str, image: torch.Tensor | np.ndarray[Any, Any], step: int, time: float) -> Image:
    """Copies an image to the host.

    Args:
        tag: The name of the panel.
        image: Shape (channels, height, width), 1 or 3 channels; floats from 0 to 1, or bytes.
        step: The iteration or epoch it belongs to.
        time: The present time, in seconds since 1970.

    Returns:
        The record.

    Raises:
        HookError: If the image has another shape.
    """
    array = _on_host(image)
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise HookError(
            f"log_image('{tag}', …) expects an image of shape (channels, height, width) with 1 or 3 channels, but got "
            f"shape {array.shape}. To fix, reorder or choose its dimensions, e.g. image.permute(2, 0, 1)."
        )
    if array.dtype != np.uint8:
        array = np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 255
    return Image(tag, np.ascontiguousarray(array.round().astype(np.uint8).transpose(1, 2, 0)), step, time)


def figure_record(tag: str, figure: "Figure", step: int, time: float) -> Image:
    """Draws a figure.

    Args:
        tag: The name of the panel.
        figure: The figure; it isn't changed.
        step: The iteration or epoch it belongs to.
        time: The present time, in seconds since 1970.

    Returns:
        The record.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    previous_canvas = figure.canvas
    try:
        canvas = FigureCanvasAgg(figure)  # sets itself as the figure's canvas
        canvas.draw()
        pixels = np.array(np.asarray(canvas.buffer_rgba())[..., :3])
    finally:
        figure.set_canvas(previous_canvas)
    return Image(tag, pixels, step, time, is_figure=True)


def histogram_record(tag: str, values: torch.Tensor | np.ndarray[Any, Any], step: int, time: float) -> Histogram:
    """Copies values to the host.

    Args:
        tag: The name of the panel.
        values: Any shape.
        step: The iteration or epoch they belong to.
        time: The present time, in seconds since 1970.

    Returns:
        The record, without NaN and infinite values.

    Raises:
        HookError: If no value is finite.
    """
    array = _on_host(values)
    array = array.astype(array.dtype if array.dtype in (np.float32, np.float64) else np.float64).ravel()
    finite = array[np.isfinite(array)]
    if finite.size == 0:
        raise HookError(
            f"log_histogram('{tag}', …) expects finite numbers, but none of the {array.size} values is finite. "
            "To fix, find where NaN and infinity come from, or don't log an empty tensor."
        )
    return Histogram(tag, finite, step, time)


def size_of(record: Record) -> int:
    """Returns the approximate size of a record in memory, in bytes."""
    match record:
        case Scalars(values):
            return _BYTES_OF_A_RECORD + _BYTES_OF_A_NUMBER * len(values)
        case Image(_, pixels):
            return _BYTES_OF_A_RECORD + pixels.nbytes
        case Histogram(_, values):
            return _BYTES_OF_A_RECORD + values.nbytes
        case Text(_, content) | Graph(content):
            return _BYTES_OF_A_RECORD + len(content)
    return _BYTES_OF_A_RECORD


def _on_host(values: torch.Tensor | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy()
