"""The structural similarity of images, after Wang et al. (2004)."""

import torch
from torch import Tensor
from torch.nn import functional

from torchbase.metrics.base import describe_tensor

WINDOW_SIZE = 11
STANDARD_DEVIATION = 1.5
# The paper's constants K1 and K2, squared, for a largest pixel value of 1.
LUMINANCE_CONSTANT = 0.01**2
CONTRAST_CONSTANT = 0.03**2


def check_images(target_image: Tensor) -> None:
    """Checks that the windows fit into images.

    Args:
        target_image: Images in the last two dimensions.

    Raises:
        ValueError: They don't.
    """
    if target_image.dim() < 2 or min(target_image.shape[-2:]) < WINDOW_SIZE:
        raise ValueError(
            f"{describe_tensor('target_image', target_image)} has to be of shape (..., height, width), each of at "
            f"least {WINDOW_SIZE} pixels, the size of the windows of ssim."
        )


def mean_structural_similarity(target: Tensor, output: Tensor) -> float:
    """Computes the mean over all windows of all images.

    Args:
        target: Images in the last two dimensions, with a largest pixel value of 1.
        output: Images of the same shape, dtype and device.

    Returns:
        The mean, from -1 to 1.
    """
    first, second = (images.reshape(-1, 1, *images.shape[-2:]) for images in (target, output))
    moments = _blur(torch.cat([first, second, first.square(), second.square(), first * second]))
    mean, other_mean, square, other_square, product = moments.chunk(5)
    # A variance is not below 0, but for rounding.
    variances = (square - mean.square()).clamp(min=0) + (other_square - other_mean.square()).clamp(min=0)
    covariance = product - mean * other_mean
    luminance = (2 * mean * other_mean + LUMINANCE_CONSTANT) / (
        mean.square() + other_mean.square() + LUMINANCE_CONSTANT
    )
    contrast_and_structure = (2 * covariance + CONTRAST_CONSTANT) / (variances + CONTRAST_CONSTANT)
    return (luminance * contrast_and_structure).mean().item()


def _blur(images: Tensor) -> Tensor:
    """Means over the Gaussian windows that lie within the images, of shape (images, 1, height, width)."""
    distances = torch.arange(WINDOW_SIZE, dtype=images.dtype, device=images.device) - WINDOW_SIZE // 2
    window = torch.exp(-distances.square() / (2 * STANDARD_DEVIATION**2))
    window = window / window.sum()
    # The Gaussian is separable: 22 products for a pixel instead of 121.
    return functional.conv2d(functional.conv2d(images, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
