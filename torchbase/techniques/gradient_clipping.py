"""Clips gradients."""

from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm

from torchbase.distributed.exact_norm import exact_norm
from torchbase.distributed.shards import local_of
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import HookError
from torchbase.techniques.settings import is_number

_SMALL = 1e-6  # as in torch.nn.utils.clip_grad_norm_: a norm of zero is no divisor


class GradientClipping:
    """Clips gradients by norm or by value.

    For exploding gradients, as in recurrent networks, or when single mini-batches destabilize the training. Gradients
    are clipped right before each optimizer step, after they are accumulated and unscaled. Their norm before clipping
    is logged as ``gradient_norm``.

    Source: Pascanu et al., On the difficulty of training recurrent neural networks, https://arxiv.org/abs/1211.5063;
    ``torch.nn.utils.clip_grad_norm_`` and ``clip_grad_value_``.

    Example:
        >>> hook = GradientClipping(norm=1.0)
    """

    def __init__(self, norm: float | None = None, value: float | None = None) -> None:
        """Sets the maximum; pass exactly one of the two arguments.

        Args:
            norm: The maximum 2-norm of all gradients together, above 0. Larger gradients are scaled down as a whole,
                which preserves their direction.
            value: The maximum absolute value of each element, above 0. Elements are clamped to it.

        Raises:
            HookError: If none or both are passed, or the argument isn't above 0.
        """
        limits = [limit for limit in (norm, value) if limit is not None]
        if len(limits) != 1 or not is_number(limits[0]) or not limits[0] > 0:
            raise HookError(
                f"GradientClipping expects either a norm or a value, above 0, but got norm={norm!r}, value={value!r}. "
                "To fix, pass one of them, e.g. GradientClipping(norm=1.0)."
            )
        self._maximum, self._is_by_norm = limits[0], norm is not None

    # A wrapper of run_optimizer_step and not on_gradients_ready, where gradients may be scaled or not yet accumulated.
    # Other hooks complete and unscale them in should_step_optimizer, so the order of the hooks doesn't matter.
    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run: Run) -> Generator[None, Any, Any]:
        """Clips the gradients."""
        parameters = list(network_of(run).parameters())
        if "mini_batch_parts" in run.hooks:  # the bits don't depend on the number of processes
            total = self._clip_exactly(run, [one.grad for one in parameters if one.grad is not None])
        elif self._is_by_norm:
            total = clip_grad_norm_(parameters, self._maximum)
        else:
            total = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
            clip_grad_value_(parameters, self._maximum)
        run.log("gradient_norm", total)  # a tensor, so that this doesn't synchronize with the device
        return (yield)

    def _clip_exactly(self, run: Run, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        total = exact_norm(gradients, run.processes)
        factor = torch.clamp(self._maximum / (total + _SMALL), max=1.0)
        for gradient in map(local_of, gradients):
            if self._is_by_norm:
                gradient.mul_(factor.to(gradient.device))
            else:
                gradient.clamp_(-self._maximum, self._maximum)
        return total
