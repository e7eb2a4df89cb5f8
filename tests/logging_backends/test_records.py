from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from torchbase.errors import HookError
from torchbase.logging_backends.records import (
    BINS,
    Scalars,
    Text,
    figure_record,
    histogram_record,
    image_record,
    size_of,
)


def test_an_image_is_bytes_with_its_channels_last():
    image = torch.tensor([[[0.0, 0.5], [1.0, 2.0]]]).expand(3, 2, 2)
    record = image_record("a", image, 4, 1.5)
    assert (record.tag, record.step, record.time, record.is_figure) == ("a", 4, 1.5, False)
    assert record.pixels.dtype == np.uint8
    assert record.pixels.shape == (2, 2, 3)
    assert record.pixels[..., 0].tolist() == [[0, 128], [255, 255]]


def test_bytes_of_an_image_are_not_scaled_and_nan_is_black():
    bytes_ = np.array([[[7, 255]]], dtype=np.uint8)
    assert image_record("a", bytes_, 1, 0.0).pixels.tolist() == [[[7], [255]]]
    assert image_record("a", torch.tensor([[[float("nan"), 1.0]]]), 1, 0.0).pixels.tolist() == [[[0], [255]]]
    assert image_record("a", torch.ones(1, 1, 1, dtype=torch.bfloat16), 1, 0.0).pixels.tolist() == [[[255]]]


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3), (2, 4, 4), (1, 3, 4, 4)])
def test_an_image_of_another_shape_is_an_error(shape):
    with pytest.raises(HookError, match=r"log_image\('a', …\) expects .*\(channels, height, width\).* but got shape"):
        image_record("a", torch.zeros(shape), 1, 0.0)


def test_later_changes_of_a_tensor_do_not_change_a_record():
    image, weights = torch.zeros(1, 2, 2, dtype=torch.uint8), torch.zeros(3)
    records = image_record("a", image, 1, 0.0), histogram_record("b", weights, 1, 0.0)
    image.fill_(9)
    weights.fill_(9)
    assert records[0].pixels.max() == 0
    assert records[1].values.max() == 0
    array = np.zeros(3)
    record = histogram_record("b", array, 1, 0.0)
    array[:] = 9
    assert record.values.max() == 0


def test_a_histogram_has_finite_values_and_needs_one():
    values = torch.tensor([[1.0, float("nan")], [float("inf"), 2.0]], dtype=torch.bfloat16, requires_grad=True)
    assert histogram_record("a", values, 1, 0.0).values.tolist() == [1.0, 2.0]
    assert histogram_record("a", torch.tensor([True, False]), 1, 0.0).values.tolist() == [1.0, 0.0]
    with pytest.raises(HookError, match=r"log_histogram\('a', …\) expects finite numbers, but none of the 1 values"):
        histogram_record("a", torch.tensor([float("nan")]), 1, 0.0)
    with pytest.raises(HookError, match="none of the 0 values is finite"):
        histogram_record("a", torch.zeros(0), 1, 0.0)


def test_a_figure_is_drawn_and_not_changed():
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.add_axes((0, 0, 1, 1)).set_facecolor("red")
    canvas = figure.canvas
    record = figure_record("a", figure, 1, 0.0)
    assert record.is_figure
    assert record.pixels.shape == (50, 100, 3)
    assert record.pixels[25, 50].tolist() == [255, 0, 0]
    assert figure.canvas is canvas


def test_a_size_depends_on_the_content_of_a_record():
    assert size_of(Scalars({"a": 1.0}, 1, 0.0)) < size_of(Scalars({"a": 1.0, "b": 2.0}, 1, 0.0)) < 1000
    assert size_of(Text("a", "b" * 5000, 1, 0.0)) > 5000
    assert size_of(image_record("a", torch.zeros(3, 100, 100), 1, 0.0)) > 30_000
    assert size_of(histogram_record("a", torch.zeros(1000), 1, 0.0)) > 4000


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0, 3.0],
        [0.0, 0.0],
        [5.0],
        [1e20, 1e20],
        [1.0, 1.0 + 1e-7],
        [1.0, 1.0 + 2e-16],
        [*np.linspace(-1, 1, 1000), 1e12],
        [-1e-30, 1e-30],
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_of_any_range_have_the_same_number_of_bins(values, dtype):
    counts, edges = histogram_record("a", torch.tensor(values, dtype=dtype), 1, 0.0).binned()
    assert len(counts) == BINS
    assert len(edges) == BINS + 1
    assert sum(counts) == len(values)
    assert edges[0] <= min(values)
    assert edges[-1] >= max(values) * (1 - 1e-7)
    assert all(low < high for low, high in pairwise(edges))
