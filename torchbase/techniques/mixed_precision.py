"""Computes in half precision where that is good enough."""

from collections.abc import Generator, Mapping
from typing import Any, Literal

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.engine.training_step import optimizer_of
from torchbase.errors import HookError, NonFiniteError

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SMALLEST_SCALE = 2.0**-16


class MixedPrecision:
    """Runs ``forward_pass`` and the loss under autocast, in training and in validation.

    On hardware with fast half precision this saves time and memory; weights, gradients and the optimizer stay as they
    are. ``"bf16"`` has the range of float32 and needs nothing else. With ``"fp16"`` small gradients would become 0, so
    the loss is scaled up by a factor that adapts itself: after an overflow the step is left out and the factor halved.
    Clipping, schedules and averages of weights see unscaled gradients and hear only of steps that are done, in
    whatever order they are registered; ``on_gradients_ready`` sees scaled ones. With ``"fp16"`` each step waits for the
    device to tell whether there was an overflow.

    Source: Micikevicius et al., Mixed Precision Training, https://arxiv.org/abs/1710.03740;
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html

    Example:
        >>> hook = MixedPrecision("bf16")
    """

    def __init__(self, precision: Literal["bf16", "fp16"] = "bf16") -> None:
        """Sets the type.

        Args:
            precision: ``"bf16"`` or ``"fp16"``.

        Raises:
            HookError: If it is neither.
        """
        if precision not in _TYPES:
            raise HookError(f"MixedPrecision takes 'bf16' or 'fp16', and got {precision!r}.")
        self._type = _TYPES[precision]
        self._scaler: torch.amp.GradScaler | None = None
        self._kept: Mapping[str, Any] = {}

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Prepares the scaling of gradients for fp16."""
        if self._type is not torch.float16:
            return
        if "nan_skip" in run.hooks:
            raise HookError(
                "MixedPrecision('fp16') can't be used with a nan_policy other than 'raise': it finds its scale by "
                "gradients that overflow, and leaves out such steps itself. To fix, set session.nan_policy to 'raise', "
                "or take MixedPrecision('bf16')."
            )
        if self._scaler is None:
            self._scaler = torch.amp.GradScaler(run.device.type)
        if self._kept:
            self._scaler.load_state_dict(dict(self._kept))
            self._kept = {}

    @hookimpl(wrapper=True)
    def run_forward(self, run: Run) -> Generator[None, Any, Any]:
        """Lets torch choose the type of each operation."""
        with torch.autocast(run.device.type, self._type):
            return (yield)

    @hookimpl(wrapper=True)
    def run_backward(self, loss: torch.Tensor) -> Generator[None, Any, Any]:
        """Scales the gradient, as scaling the loss would, and leaves the loss to those who look at it."""
        scaler = self._scaler
        if scaler is not None:
            loss.register_hook(lambda gradient: scaler.scale(gradient).to(gradient.dtype))  # type: ignore[no-untyped-call]
        return (yield)

    # A wrapper, so that it comes to its turn whoever decides, and knows that no more gradients are to come.
    @hookimpl(wrapper=True)
    def should_step_optimizer(self, run: Run) -> Generator[None, bool | None, bool | None]:
        """Unscales the gradients before a step, and leaves out one whose gradients have overflowed."""
        answer = yield
        if self._scaler is None or answer is False:
            return answer
        return answer if self._are_finite_unscaled(self._scaler, run) else False

    def state_dict(self) -> dict[str, Any]:
        """Gives the state of the scaling."""
        return dict(self._kept) if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the state of the scaling, for when the run starts.

        Args:
            state: What `state_dict` gave.
        """
        self._kept = dict(state)

    def _are_finite_unscaled(self, scaler: torch.amp.GradScaler, run: Run) -> bool:
        optimizer, scale = optimizer_of(run), scaler.get_scale()
        run.log("gradient_scale", scale)
        scaler.unscale_(optimizer)
        scaler.update()  # needs no more than what unscaling has found; it lowers the scale after an overflow
        if scaler.get_scale() >= scale:
            return True
        if scale < _SMALLEST_SCALE:
            raise NonFiniteError(
                f"Gradients are NaN or infinite even where they are scaled by {scale:g}, so that isn't for want of "
                "range. To fix, look at the loss and the data; nan_policy 'skip' without 'fp16' names the parameter."
            )
        optimizer.zero_grad(set_to_none=True)
        return False
