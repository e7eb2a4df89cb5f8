"""The structural similarity of images, as in Wang et al. (2004)."""

import torch
from torch import Tensor
from torch.nn import functional

from torchbase.metrics.base import describe_tensor

WINDOW_SIZE = 11
STANDARD_DEVIATION = 1.5
# The squares of the constants K1 and K2 of the paper, for a maximum pixel value of 1.
LUMINANCE_CONSTANT = 0.01**2
CONTRAST_CONSTANT = 0.03**2


def check_images(target_image: Tensor) -> None:
    """Checks that the windows fit into the images.

    Args:
        target_image: Images of shape (..., height, width).

    Raises:
        ValueError: The images are smaller than a window.
    """
    if target_image.dim() < 2 or min(target_image.shape[-2:]) < WINDOW_SIZE:
        raise ValueError(
            f"{describe_tensor('target_image', target_image)} has to have the shape (..., height, width), with a "
            f"height and width of at least {WINDOW_SIZE} pixels, the window size of ssim."
        )


def mean_structural_similarity(target: Tensor, output: Tensor) -> float:
    """Computes the mean structural similarity over all windows of all images.

    Args:
        target: Images of shape (..., height, width), with a maximum pixel value of 1.
        output: Images of the same shape and dtype, on the same device.

    Returns:
        The mean, from -1 to 1.
    """
    first, second = (images.reshape(-1, 1, *images.shape[-2:]) for images in (target, output))
    moments = _blur(torch.cat([first, second, first.square(), second.square(), first * second]))
    mean, other_mean, square, other_square, product = moments.chunk(5)
    # Rounding can make a variance negative.
    variances = (square - mean.square()).clamp(min=0) + (other_square - other_mean.square()).clamp(min=0)
    covariance = product - mean * other_mean
    luminance = (2 * mean * other_mean + LUMINANCE_CONSTANT) / (
        mean.square() + other_mean.square() + LUMINANCE_CONSTANT
    )
    contrast_and_structure = (2 * covariance + CONTRAST_CONSTANT) / (variances + CONTRAST_CONSTANT)
    return (luminance * contrast_and_structure).mean().item()


def _blur(images: Tensor) -> Tensor:
    """Computes the means over the Gaussian windows inside images of shape (images, 1, height, width)."""
    distances = torch.arange(WINDOW_SIZE, dtype=images.dtype, device=images.device) - WINDOW_SIZE // 2
    window = torch.exp(-distances.square() / (2 * STANDARD_DEVIATION**2))
    window = window / window.sum()
    # The Gaussian is separable: 22 products per pixel instead of 121.
    return functional.conv2d(functional.conv2d(images, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
