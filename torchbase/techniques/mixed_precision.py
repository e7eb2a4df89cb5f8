"""Computes in mixed precision."""

import logging
import weakref
from collections.abc import Generator, Mapping
from typing import Any, Literal

import torch

from torchbase.distributed.shards import is_shard
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, optimizer_of
from torchbase.errors import HookError, NonFiniteError
from torchbase.techniques.shard_scaling import GradientsOfAll

logger = logging.getLogger("torchbase")

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SMALLEST_SCALE = 2.0**-16


class MixedPrecision:
    """Runs the forward pass and the loss in mixed precision (bf16 or fp16).

    ``torch.autocast`` wraps training and validation. On hardware with fast half precision this saves time and memory.
    Weights, gradients and the optimizer keep their types. ``"bf16"`` has the range of float32 and needs no scaling.
    With ``"fp16"`` small gradients would underflow, so gradients are scaled by a dynamic factor. After an overflow the
    step is skipped and the factor is halved. Clipping, schedules and weight averaging work with unscaled gradients and
    are called only for steps that are not skipped, in any order of registration. In ``on_gradients_ready`` gradients
    are still scaled. With ``"fp16"`` each step synchronizes with the device, to detect an overflow. Of several
    optimizers, each has a factor of its own.

    In a network that is sharded over several processes, whole units compute in half precision, and not single
    operations: their parameters are gathered in it, and their gradients are added in float32.

    Source: Micikevicius et al., Mixed Precision Training, https://arxiv.org/abs/1710.03740;
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html

    Example:
        >>> hook = MixedPrecision("bf16")
    """

    def __init__(self, precision: Literal["bf16", "fp16"] = "bf16") -> None:
        """Sets the precision.

        Args:
            precision: ``"bf16"`` or ``"fp16"``.

        Raises:
            HookError: If the precision is neither.
        """
        if precision not in _TYPES:
            raise HookError(f"MixedPrecision expects 'bf16' or 'fp16', but got {precision!r}.")
        self._type = _TYPES[precision]
        self._units: weakref.ref[torch.nn.Module] | None = None
        self._scalers: dict[str | None, torch.amp.GradScaler] = {}  # by turn
        self._loaded_state: Mapping[str, Any] = {}

    @property
    def unused_events(self) -> frozenset[str]:
        """The events in which gradients are scaled, which bf16 doesn't need."""
        return frozenset() if self._type is torch.float16 else frozenset({"run_backward", "should_step_optimizer"})

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers in which the network computes."""
        return self._type

    def leave_to_units(self, network: torch.nn.Module) -> None:
        """Leaves the conversion of numbers to a network that is sharded over processes.

        A session calls it. With autocast, each process would store all parameters of a part in the type.

        Args:
            network: The network, whose units convert their parameters and inputs.
        """
        self._units = weakref.ref(network)

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Creates the gradient scaler for fp16."""
        self._warn_of_copies(network_of(run) if run.network is not None else None)
        if self._type is not torch.float16:
            return
        if "nan_skip" in run.hooks:
            raise HookError(
                "MixedPrecision('fp16') can't be used with a nan_policy other than 'raise': it finds its scale from "
                "gradients that overflow, and skips such steps on its own. To fix, set session.nan_policy to 'raise', "
                "or use MixedPrecision('bf16')."
            )
        of_turns = self._loaded_state.get("turns", {None: self._loaded_state})
        for turn in (None,) if run.turns is None else run.turns.names:
            scaler = self._scalers.setdefault(turn, torch.amp.GradScaler(run.device.type))
            if of_turns.get(turn):
                scaler.load_state_dict(dict(of_turns[turn]))
            # PyTorch makes the scale at the first use, and a process may have no part of the first mini-batch.
            scaler.scale(torch.zeros((), device=run.device))
        self._loaded_state = {}

    @hookimpl(wrapper=True)
    def run_forward(self, run: Run) -> Generator[None, Any, Any]:
        """Wraps the forward pass and the loss in autocast."""
        if self._units is not None and self._units() is run.network:
            return (yield)  # FSDP2 gives each unit its parameters and inputs in the type
        with torch.autocast(run.device.type, self._type):
            return (yield)

    @hookimpl(wrapper=True)
    def run_backward(self, run: Run, loss: torch.Tensor) -> Generator[None, Any, Any]:
        """Scales the gradient as scaling the loss would, but leaves the loss unchanged for other hooks."""
        scaler = self._scalers.get(run.turn)
        if scaler is not None:
            loss.register_hook(lambda gradient: scaler.scale(gradient).to(gradient.dtype))  # type: ignore[no-untyped-call]
        return (yield)

    # A wrapper, so that it is called whichever hook decides, and after the gradients are complete.
    @hookimpl(wrapper=True)
    def should_step_optimizer(self, run: Run) -> Generator[None, bool | None, bool | None]:
        """Unscales the gradients before a step, and prevents the step if they have overflowed."""
        should_step, scaler = (yield), self._scalers.get(run.turn)
        if scaler is None or should_step is False:
            return should_step
        return should_step if self._unscale(scaler, run) else False

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the scaler, or of that of each of several optimizers."""
        states = {turn: scaler.state_dict() for turn, scaler in self._scalers.items()}
        if not states:
            return dict(self._loaded_state)
        return states.get(None, {"turns": states})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stores the state of the scaler, which the start of the run restores.

        Args:
            state: The return value of `state_dict`.
        """
        self._loaded_state = dict(state)

    def _warn_of_copies(self, network: torch.nn.Module | None) -> None:
        is_left = self._units is not None and self._units() is network
        if network is not None and not is_left and any(is_shard(one) for one in network.parameters()):
            logger.warning(
                "MixedPrecision was registered when the sharded network was there already. So each process stores all "
                "of its parameters in %s from the forward to the backward pass. To fix, register the hook before "
                "session.network is used.",
                self._type,
            )

    def _unscale(self, scaler: torch.amp.GradScaler, run: Run) -> bool:
        """Unscales the gradients, and returns whether they are finite."""
        optimizer, scale = optimizer_of(run), scaler.get_scale()
        run.log("gradient_scale", scale)
        held = list(held_parameters(optimizer).values())
        is_sharded = any(is_shard(one) for one in held)
        scaler.unscale_(GradientsOfAll(held, run.processes, run.device) if is_sharded else optimizer)  # type: ignore[arg-type]
        scaler.update()  # uses the overflows that unscale_ has found, and lowers the scale after an overflow
        if scaler.get_scale() >= scale:
            return True
        if scale < _SMALLEST_SCALE:
            raise NonFiniteError(
                f"Gradients are NaN or infinite even with a scale of {scale:g}, so the range of fp16 is not the cause. "
                "To fix, check the loss and the data; nan_policy 'skip' without 'fp16' names the parameter."
            )
        optimizer.zero_grad(set_to_none=True)
        return False
