"""Metrics of how near images that a network gives come to target images."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from torchbase.metrics.base import BaseMetricsClass, check_finite, check_tensors

EPSILON = 1e-9


class ImageReconstructionMetrics(BaseMetricsClass):
    """Compares output images with target images, value by value.

    Each metric takes ``target_image`` and ``output_image``: tensors of floating-point dtypes, of one shape, whichever
    it is (with or without mini-batch and channels), on any device. The error is averaged over all values of the
    mini-batch together. Each metric raises a TypeError for what is no such tensor, and a ValueError for empty
    tensors, differing shapes and values that are not finite.

    Args:
        keyword_maps: From keys of what ``forward_pass`` returns to names of the metrics' arguments.
        maximum_pixel_value: The largest value that a pixel can have, as 1 or 255; the lowest is 0.

    Raises:
        TypeError: ``maximum_pixel_value`` is not a number, or ``keyword_maps`` not a mapping of strings to strings.
        ValueError: ``maximum_pixel_value`` is not finite and above 0.
        MetricsError: ``keyword_maps`` don't fit the metrics.
    """

    def __init__(self, keyword_maps: Mapping[str, str] | None = None, maximum_pixel_value: float = 1.0) -> None:
        super().__init__(keyword_maps)
        if isinstance(maximum_pixel_value, bool) or not isinstance(maximum_pixel_value, int | float):
            raise TypeError(f"maximum_pixel_value has to be a number above 0, but {maximum_pixel_value!r} came.")
        if not (math.isfinite(maximum_pixel_value) and maximum_pixel_value > 0):
            raise ValueError(f"maximum_pixel_value has to be finite and above 0, but {maximum_pixel_value!r} came.")
        self._maximum_pixel_value = float(maximum_pixel_value)

    def psnr(self, *, target_image: Tensor, output_image: Tensor) -> float:
        """Return the peak signal-to-noise ratio in decibels; more is better.

        It is ``-10 * log10(mse / maximum_pixel_value**2 + 1e-9)``. The small term keeps it finite: identical images
        have 90 dB, at any scale of the pixels, and images of up to 60 dB lose less than 0.005 dB to it.

        Source: https://en.wikipedia.org/wiki/Peak_signal-to-noise_ratio
        """
        target, output = _prepare(target_image, output_image, self._maximum_pixel_value)
        return -10 * math.log10((target - output).square().mean().item() + EPSILON)

    def mse_normalized(self, *, target_image: Tensor, output_image: Tensor) -> float:
        """Return the mean squared error divided by the mean square of the target; less is better.

        It is ``mse / (mean(target_image**2) + 1e-9 * maximum_pixel_value**2)``: 0 for identical images and about 1
        for an output of zeros. The small term keeps it finite for a target of zeros.
        """
        target, output = _prepare(target_image, output_image, self._maximum_pixel_value)
        return (target - output).square().mean().item() / (target.square().mean().item() + EPSILON)


def _prepare(target_image: Tensor, output_image: Tensor, maximum_pixel_value: float) -> tuple[Tensor, Tensor]:
    """Check both images and scale them to a largest pixel value of 1, in a precision that sums well."""
    check_tensors(is_floating=True, target_image=target_image, output_image=output_image)
    check_finite("target_image", target_image)
    check_finite("output_image", output_image)
    # Images stay on their device: copying them to the host would take longer than the sums. MPS has no float64.
    dtype = torch.float32 if output_image.device.type == "mps" else torch.float64
    target = target_image.detach().to(device=output_image.device, dtype=dtype)
    output = output_image.detach().to(dtype)
    return target / maximum_pixel_value, output / maximum_pixel_value
