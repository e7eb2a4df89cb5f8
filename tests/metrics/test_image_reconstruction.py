import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.metrics import ImageReconstructionMetrics

NAMES = ["psnr", "mse_normalized", "ssim"]


def compute(name, target, output, **settings):
    functional = ImageReconstructionMetrics(**settings).get_metrics([name])[name]
    return functional(target_image=target, output_image=output)


def test_the_metrics_are_those_documented():
    assert list(ImageReconstructionMetrics().get_all_metric_functionals_dict()) == NAMES


@pytest.mark.parametrize(("error", "decibels"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0), (10.0, -20.0)])
def test_psnr_has_the_value_computed_by_hand(error, decibels):
    target = torch.zeros(2, 3, 4, 4)
    value = compute("psnr", target, target + error)
    assert type(value) is float
    assert value == pytest.approx(decibels, abs=1e-4)


@pytest.mark.parametrize("maximum_pixel_value", [0.5, 1, 255.0, 65535])
def test_psnr_of_identical_images_is_ninety_decibels_at_any_scale(maximum_pixel_value):
    image = torch.rand(3, 4, 4) * maximum_pixel_value
    assert compute("psnr", image, image, maximum_pixel_value=maximum_pixel_value) == pytest.approx(90.0)


def test_psnr_is_relative_to_the_maximum_pixel_value():
    target = torch.zeros(4)
    assert compute("psnr", target, target + 25.5, maximum_pixel_value=255.0) == pytest.approx(20.0, abs=1e-4)


@settings(max_examples=30)
@given(
    pixels=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8),
    maximum_pixel_value=st.floats(0.1, 1000),
)
def test_psnr_follows_the_documented_formula(pixels, maximum_pixel_value):
    target, output = torch.tensor(pixels, dtype=torch.float64).T * maximum_pixel_value
    mse = sum((a - b) ** 2 for a, b in pixels) / len(pixels)
    value = compute("psnr", target, output, maximum_pixel_value=maximum_pixel_value)
    assert value == pytest.approx(-10 * math.log10(mse + 1e-9))
    assert value <= 90 + 1e-9


def test_mse_normalized_has_the_value_computed_by_hand():
    target, output = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 5.0])
    value = compute("mse_normalized", target, output)
    assert type(value) is float
    assert value == pytest.approx((0 + 1 + 4) / (1 + 4 + 9), rel=1e-8)


def test_mse_normalized_does_not_depend_on_the_scale_of_the_pixels():
    target, output = torch.rand(2, 3, 4, 4, dtype=torch.float64).unbind()
    scaled = compute("mse_normalized", target * 255, output * 255, maximum_pixel_value=255.0)
    assert scaled == pytest.approx(compute("mse_normalized", target, output))


def test_mse_normalized_of_a_target_of_zeros_is_finite():
    assert compute("mse_normalized", torch.zeros(4), torch.zeros(4)) == 0.0
    assert compute("mse_normalized", torch.zeros(4), torch.ones(4)) == pytest.approx(1e9)


@pytest.mark.parametrize("name", NAMES)
def test_metrics_take_mapped_keys(name):
    metrics = ImageReconstructionMetrics(keyword_maps={"sharp": "target_image", "restored": "output_image"})
    target, output = torch.rand(2, 11, 12).unbind()
    functional = metrics.get_all_metric_functionals_dict()[name]
    assert functional(sharp=target, restored=output) == compute(name, target, output)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_images_may_be_of_any_floating_point_dtype_and_require_gradients(name, dtype):
    target, output = (torch.randint(5, (2, 12, 12), generator=torch.Generator().manual_seed(0)) / 4).unbind()
    value = compute(name, target.to(dtype), output.to(dtype).requires_grad_())
    assert value == compute(name, target, output)


def test_small_errors_of_bright_images_are_not_rounded_away():
    target = torch.full((100_000,), 255.0)
    assert compute("mse_normalized", target, target + 2**-12) == pytest.approx(2**-24 / 255**2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("target", "output", "error", "message"),
    [
        ([0.5], torch.rand(1), TypeError, "target_image has to be a torch.Tensor, but got list: [0.5]"),
        (torch.rand(1), None, TypeError, "output_image has to be a torch.Tensor, but got NoneType: None"),
        (torch.ones(2).byte(), torch.rand(2), TypeError, "target_image (shape (2,), torch.uint8) has to have a float"),
        (torch.rand(2), torch.ones(2).cfloat(), TypeError, "output_image (shape (2,), torch.complex64) has to have a "),
        (
            torch.rand(1, 4, 4),
            torch.rand(4, 4),
            ValueError,
            "target_image (shape (1, 4, 4), torch.float32) and output_image (shape (4, 4), torch.float32) have ",
        ),
        (
            torch.rand(0, 3),
            torch.rand(0, 3),
            ValueError,
            "got empty tensors: target_image (shape (0, 3), torch.float32)",
        ),
        (torch.tensor([math.nan]), torch.rand(1), ValueError, "target_image (shape (1,), torch.float32) has to be fin"),
        (
            torch.rand(2),
            torch.tensor([1, math.inf], dtype=torch.float16),
            ValueError,
            "output_image (shape (2,), torch.float16) has to be finite, but 1 of its 2 values are not, for example [i",
        ),
    ],
)
def test_invalid_images_are_refused_with_a_description(name, target, output, error, message):
    with pytest.raises(error, match=re.escape(message)):
        compute(name, target, output)


@pytest.mark.parametrize("maximum_pixel_value", ["1", None, True])
def test_a_maximum_pixel_value_that_is_not_a_number_is_refused(maximum_pixel_value):
    with pytest.raises(TypeError, match=f"a number above 0, but got {maximum_pixel_value!r}"):
        ImageReconstructionMetrics(maximum_pixel_value=maximum_pixel_value)


@pytest.mark.parametrize("maximum_pixel_value", [0, -1.0, math.nan, math.inf])
def test_a_maximum_pixel_value_out_of_range_is_refused(maximum_pixel_value):
    with pytest.raises(ValueError, match=f"finite and above 0, but got {maximum_pixel_value!r}"):
        ImageReconstructionMetrics(maximum_pixel_value=maximum_pixel_value)


def test_ssim_of_constant_images_compares_their_luminance():
    value = compute("ssim", torch.full((11, 11), 0.5), torch.full((11, 11), 0.25))
    assert type(value) is float
    assert value == pytest.approx((2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4))


@pytest.mark.parametrize("shape", [(11, 11), (3, 12, 17), (2, 3, 16, 11), (2, 2, 3, 12, 12)])
@pytest.mark.parametrize("maximum_pixel_value", [1.0, 255.0])
def test_ssim_of_identical_images_is_one(shape, maximum_pixel_value):
    image = torch.rand(shape) * maximum_pixel_value
    assert compute("ssim", image, image, maximum_pixel_value=maximum_pixel_value) == pytest.approx(1.0, abs=1e-12)


def test_ssim_does_not_depend_on_the_scale_of_the_pixels():
    target, output = torch.rand(2, 3, 16, 16, dtype=torch.float64).unbind()
    scaled = compute("ssim", target * 255, output * 255, maximum_pixel_value=255.0)
    assert scaled == pytest.approx(compute("ssim", target, output))


def test_ssim_of_an_inverted_image_is_below_zero():
    image = (torch.arange(16 * 16).reshape(16, 16) % 2).float()
    assert -1 <= compute("ssim", image, 1 - image) < -0.9


def test_ssim_of_several_images_is_the_mean_of_their_values():
    target, output = torch.rand(2, 5, 3, 12, 14).unbind()
    values = [compute("ssim", *images) for images in zip(target, output, strict=True)]
    assert compute("ssim", target, output) == pytest.approx(sum(values) / 5, abs=1e-12)


def test_ssim_equals_that_of_torchmetrics_inside_the_border():
    image = pytest.importorskip("torchmetrics.functional.image")
    target = torch.rand(3, 2, 20, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    output = (target + 0.2 * torch.rand_like(target)).clamp(max=1)
    # torchmetrics also counts windows over the border, with reflected pixels; the paper doesn't.
    _, similarities = image.structural_similarity_index_measure(output, target, data_range=1.0, return_full_image=True)
    expected = similarities[..., 5:-5, 5:-5].mean()
    assert compute("ssim", target, output) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("shape", [(20,), (10, 20), (3, 20, 10), (1, 3, 4, 4)])
def test_images_smaller_than_the_window_of_ssim_are_refused(shape):
    message = f"target_image (shape {shape}, torch.float32) has to have the shape (..., height, width), with a height"
    with pytest.raises(ValueError, match=re.escape(message)):
        compute("ssim", torch.rand(shape), torch.rand(shape))
