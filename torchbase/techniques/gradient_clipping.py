"""Keeps gradients from being too large."""

from collections.abc import Generator
from typing import Any

from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import HookError


class GradientClipping:
    """Makes gradients that are too large smaller, right before the optimizer uses them.

    For losses with steep walls, as those of recurrent networks, and where single mini-batches throw the training off.
    Gradients are clipped once a step of the optimizer, when all mini-batches of the step are in them, and never while
    they are scaled for half precision. Their norm before it is logged as ``gradient_norm``.

    Source: Pascanu et al., On the difficulty of training recurrent neural networks, https://arxiv.org/abs/1211.5063;
    ``torch.nn.utils.clip_grad_norm_`` and ``clip_grad_value_``.

    Example:
        >>> hook = GradientClipping(norm=1.0)
    """

    def __init__(self, norm: float | None = None, value: float | None = None) -> None:
        """Sets what is too large; give one of the two.

        Args:
            norm: The largest 2-norm of all gradients together, above 0; larger ones are scaled down to it as a whole,
                so that their direction stays.
            value: The largest magnitude of each number in them, above 0; larger ones are set to it.

        Raises:
            HookError: If none or both are given, or one isn't above 0.
        """
        given = [one for one in (norm, value) if one is not None]
        if len(given) != 1 or not given[0] > 0:
            raise HookError(
                f"GradientClipping takes either a norm or a value, above 0, and got norm={norm!r}, value={value!r}. "
                "To fix, give one of them, e.g. GradientClipping(norm=1.0)."
            )
        self._most, self._is_by_norm = given[0], norm is not None

    # Around the step and not where gradients are ready: there they may lack mini-batches that are accumulated, or be
    # scaled. Who makes them whole does so when it is asked whether to step, so the order of the hooks doesn't matter.
    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run: Run) -> Generator[None, Any, Any]:
        """Clips the gradients."""
        parameters = list(network_of(run).parameters())
        if self._is_by_norm:
            total = clip_grad_norm_(parameters, self._most)
        else:
            total = get_total_norm([one.grad for one in parameters if one.grad is not None])
            clip_grad_value_(parameters, self._most)
        run.log("gradient_norm", total)  # a tensor, so that nothing waits for the device
        return (yield)
