"""How much mini-batches weigh in averages of the loss, if not by their samples."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from torchbase.engine.iteration_values import LossWeight, check_weight
from torchbase.engine.phase import Phase
from torchbase.metrics.selection import NAME_OF_THE_LOSS

Weight = torch.Tensor | float
Parts = Mapping[str, torch.Tensor | float]

# Their numbers are read without waiting for a device; MPS has no double precision.
READ_AT_ONCE = ("cpu", "mps")


class LossWeights:
    """Calls the user's function that returns how much a mini-batch weighs, such as its number of tokens."""

    def __init__(self, infer: Callable[[Any], Any]) -> None:
        """Stores the function.

        Args:
            infer: Takes a mini-batch, returns a number of at least 0, or a tensor of shape () with one.
        """
        self._infer = infer

    def of(self, mini_batch: Any) -> Weight:
        """Returns how much a mini-batch, or a part of one, weighs.

        Args:
            mini_batch: The mini-batch.

        Returns:
            A number; or, without waiting for the device, a tensor of shape () in double precision. That is checked when
            the values of its iteration are read.

        Raises:
            StepError: If it isn't a number of at least 0.
        """
        weight = self._infer(mini_batch)
        if not isinstance(weight, torch.Tensor) or weight.device.type in READ_AT_ONCE:
            return check_weight(weight)
        if weight.dim() != 0 or weight.is_complex() or weight.dtype is torch.bool:
            return check_weight(weight)  # which refuses it
        return weight.detach().double()

    def weigh(self, phase: Phase, batch: Any, outputs: Mapping[str, Any], loss: Any, parts: Parts) -> tuple[Any, Parts]:
        """Sets the weight of a mini-batch on its phase. If it weighs nothing, its loss and gradients are 0.

        A mean over no tokens is 0 / 0, and so are its gradients, even if they are multiplied by 0 afterwards.

        Args:
            phase: The phase.
            batch: The mini-batch.
            outputs: The outputs of ``forward_pass``.
            loss: The loss, as ``loss_function`` returned it.
            parts: The parts of the loss, by name.

        Returns:
            The loss and its parts.
        """
        weight = self.of(batch)
        phase.loss_weight = LossWeight(weight, frozenset((NAME_OF_THE_LOSS, *parts)))
        if not isinstance(weight, torch.Tensor) and weight > 0:
            return loss, parts
        for tensor in _tensors_in(outputs):
            if tensor.requires_grad and not tensor.is_leaf:  # a leaf is a parameter, whose hook would stay
                tensor.register_hook(lambda gradient: _or_zero(weight, gradient))  # type: ignore[no-untyped-call]
        return _or_zero(weight, loss), {name: _or_zero(weight, part) for name, part in parts.items()}


def share_of(weight: Weight, total: Weight) -> Weight:
    """Returns the share of a weight in a total, which is 0 if the total is.

    Args:
        weight: The weight.
        total: The total.
    """
    if isinstance(total, torch.Tensor):
        return torch.where(total > 0, weight / total, 0.0)
    return weight / total if total else 0.0


def scale_gradient(loss: torch.Tensor, share: Weight) -> None:
    """Scales the gradient as scaling the loss would, but leaves the loss unchanged for other hooks.

    Args:
        loss: The loss, shape ().
        share: By what the gradient is multiplied.
    """
    loss.register_hook(lambda gradient: gradient * in_dtype_of(gradient, share))  # type: ignore[no-untyped-call]


def in_dtype_of(tensor: torch.Tensor, share: Weight) -> Weight:
    """Returns a share that doesn't change the dtype of a tensor that is multiplied by it.

    Args:
        tensor: The tensor.
        share: The share.
    """
    return share.to(tensor.dtype) if isinstance(share, torch.Tensor) else share


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(one)


def _or_zero(weight: Weight, value: Any) -> Any:
    """Returns a value; 0 if the weight is 0, with the gradient 0."""
    if not isinstance(value, torch.Tensor):
        return value if isinstance(weight, torch.Tensor) or not isinstance(value, float) else 0.0
    nothing = torch.zeros((), dtype=value.dtype, device=value.device)
    counts = weight > 0 if isinstance(weight, torch.Tensor) else nothing > 0
    return torch.where(counts.to(value.device), value, nothing)
