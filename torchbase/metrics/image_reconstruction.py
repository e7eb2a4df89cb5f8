"""Metrics of image reconstruction: how close output images are to target images."""

import math
from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor

from torchbase.metrics.base import BaseMetricsClass, CommonOptions, check_finite, check_tensors
from torchbase.metrics.directions import higher_is_better, lower_is_better
from torchbase.metrics.epoch_kinds import EpochState, accumulated, mean_over_samples
from torchbase.metrics.states import check_number, compute_mini_batch
from torchbase.metrics.structural_similarity import check_images, mean_structural_similarity

EPSILON = 1e-9


class _SquaredErrors(EpochState):
    """Sums of the squared errors and of the squared targets."""

    def __init__(self, maximum_pixel_value: float) -> None:
        self._maximum_pixel_value = maximum_pixel_value
        self._errors, self._targets, self._count = 0.0, 0.0, 0

    def update(self, *, target_image: Tensor, output_image: Tensor) -> None:
        target, output = _prepare(target_image, output_image, self._maximum_pixel_value)
        # In one copy, since each copy from an accelerator synchronizes.
        errors, targets = torch.stack([(target - output).square().sum(), target.square().sum()]).tolist()
        self._errors += errors
        self._targets += targets
        self._count += target.numel()


class _PeakSignalToNoise(_SquaredErrors):
    def compute(self) -> float:
        return -10 * math.log10(self._errors / self._count + EPSILON)


class _NormalizedError(_SquaredErrors):
    def compute(self) -> float:
        return self._errors / self._count / (self._targets / self._count + EPSILON)


class ImageReconstructionMetrics(BaseMetricsClass):
    """Metrics that compare output images with target images.

    Each metric takes ``target_image`` and ``output_image``: tensors of floating-point dtypes and of the same shape, on
    any device. psnr and mse_normalized accept any shape, with or without mini-batch and channel dimensions; they use
    all values of a mini-batch or an epoch together. Each metric raises a TypeError for arguments of another type or
    dtype, and a ValueError for empty tensors, different shapes and values that are not finite.

    Args:
        keyword_maps: Maps keys that ``forward_pass`` returns to arguments of the metrics.
        maximum_pixel_value: The highest possible value of a pixel, such as 1 or 255; the lowest is 0.
        **options: ``prefix`` and ``validation_only``; see `BaseMetricsClass`.

    Raises:
        TypeError: ``maximum_pixel_value`` is not a number, or ``keyword_maps`` is not a mapping of strings to strings.
        ValueError: ``maximum_pixel_value`` is not finite or not above 0.
        MetricsError: ``keyword_maps`` doesn't fit the metrics.
    """

    def __init__(
        self,
        keyword_maps: Mapping[str, str] | None = None,
        maximum_pixel_value: float = 1.0,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(keyword_maps, **options)
        self._maximum_pixel_value = check_number("maximum_pixel_value", maximum_pixel_value, "a number above 0")
        if not (math.isfinite(self._maximum_pixel_value) and self._maximum_pixel_value > 0):
            raise ValueError(f"maximum_pixel_value has to be finite and above 0, but got {maximum_pixel_value!r}.")

    @higher_is_better
    @accumulated(lambda metrics: _PeakSignalToNoise(metrics._maximum_pixel_value))
    def psnr(self, *, target_image: Tensor, output_image: Tensor) -> float:
        """Returns the peak signal-to-noise ratio in decibels, at most 90; higher is better.

        It is ``-10 * log10(mse / maximum_pixel_value**2 + 1e-9)``. The term 1e-9 keeps it finite: identical images have
        90 dB for any maximum pixel value. Below 60 dB the term changes the value by less than 0.005 dB. The value of an
        epoch uses the mse over all pixels of the epoch; the mean of the values of the images is higher.

        Source: https://en.wikipedia.org/wiki/Peak_signal-to-noise_ratio
        """
        state = _PeakSignalToNoise(self._maximum_pixel_value)
        return compute_mini_batch(state, target_image=target_image, output_image=output_image)

    @lower_is_better
    @accumulated(lambda metrics: _NormalizedError(metrics._maximum_pixel_value))
    def mse_normalized(self, *, target_image: Tensor, output_image: Tensor) -> float:
        """Returns the mean squared error divided by the mean square of the target, at least 0; lower is better.

        It is ``mse / (mean(target_image**2) + 1e-9 * maximum_pixel_value**2)``: 0 for identical images and about 1
        for an output of zeros. The term with 1e-9 keeps it finite for a target of zeros.
        """
        state = _NormalizedError(self._maximum_pixel_value)
        return compute_mini_batch(state, target_image=target_image, output_image=output_image)

    @higher_is_better
    @mean_over_samples
    def ssim(self, *, target_image: Tensor, output_image: Tensor) -> float:
        """Returns the structural similarity, from -1 to 1; higher is better. Identical images have 1.

        The images have shape (..., channels, height, width) or (..., height, width). Height and width are at least 11
        pixels; smaller images raise a ValueError. As in the paper, the window is a Gaussian of 11x11 pixels with a
        standard deviation of 1.5, and only windows inside the image count. The channels are compared separately. The
        value is the mean over windows, channels and images.

        Source: Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural
        similarity (2004), https://doi.org/10.1109/TIP.2003.819861
        """
        target, output = _prepare(target_image, output_image, self._maximum_pixel_value)
        check_images(target_image)
        return mean_structural_similarity(target, output)


def _prepare(target_image: Tensor, output_image: Tensor, maximum_pixel_value: float) -> tuple[Tensor, Tensor]:
    """Checks both images and scales them to a maximum pixel value of 1, in float64 where the device supports it."""
    check_tensors(is_floating=True, target_image=target_image, output_image=output_image)
    check_finite("target_image", target_image)
    check_finite("output_image", output_image)
    # The images stay on their device, since a copy to the host takes longer than the sums. MPS has no float64.
    dtype = torch.float32 if output_image.device.type == "mps" else torch.float64
    target = target_image.detach().to(device=output_image.device, dtype=dtype)
    output = output_image.detach().to(dtype)
    return target / maximum_pixel_value, output / maximum_pixel_value
