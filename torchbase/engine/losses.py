"""The user's loss function: how it is called, and the checks of what it returns."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from torchbase.errors import StepError, describe_returned, did_you_mean


class KeywordFunction:
    """Calls the user's loss function with the outputs of ``forward_pass`` that its parameters name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Reads the signature of the function.

        Args:
            function: The loss function.

        Raises:
            StepError: If a parameter can't be passed by keyword.
        """
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise StepError(
                    f"loss_function is called with outputs of forward_pass by keyword, but its parameter "
                    f"'{parameter}' can't be passed by keyword. To fix, write "
                    "def loss_function(self, *, output, target)."
                )
        named = [one for one in parameters if one.kind is not one.VAR_KEYWORD]
        self._function = function
        self._takes_all = len(named) < len(parameters)
        self._required = [one.name for one in named if one.default is one.empty]
        self._optional = [one.name for one in named if one.default is not one.empty]

    def __call__(self, outputs: Mapping[str, Any], is_training: bool = True) -> Any:
        """Calls the function.

        Args:
            outputs: The outputs that ``forward_pass`` returned.
            is_training: Whether the phase trains. In validation, the loss may be missing.

        Returns:
            The return value of the function.

        Raises:
            StepError: If an output for a required parameter is missing.
        """
        missing = [name for name in self._required if name not in outputs]
        if missing:
            raise StepError(_describe_missing(missing, list(outputs), is_training))
        if self._takes_all:
            return self._function(**outputs)
        arguments = {name: outputs[name] for name in self._required}
        for name in self._optional:
            if name in outputs:
                arguments[name] = outputs[name]
        return self._function(**arguments)


def split_loss(returned: Any) -> tuple[Any, Mapping[str, torch.Tensor | float]]:
    """Splits the return value of ``loss_function`` into the loss and its parts.

    Args:
        returned: The loss, or a dictionary of the loss, under ``"loss"``, and its parts by name.

    Returns:
        The loss, which may be None in validation, and the parts, detached.

    Raises:
        StepError: If a dictionary lacks the loss, or a part is not a number.
    """
    if isinstance(returned, torch.Tensor) or not isinstance(returned, Mapping):  # a tensor first, the usual case
        return returned, {}
    if "loss" not in returned:
        raise StepError(
            "loss_function returned a dictionary without the key 'loss', from which the gradients are computed. It has "
            f"the keys {', '.join(map(repr, returned)) or 'none'}. To fix, return for example "
            '{"loss": reconstruction + penalty, "reconstruction": reconstruction, "penalty": penalty}.'
        )
    return returned["loss"], {name: _check_part(name, value) for name, value in returned.items() if name != "loss"}


def _check_part(name: object, value: object) -> torch.Tensor | float:
    if isinstance(value, torch.Tensor) and value.dim() == 0 and isinstance(name, str):
        return value.detach()
    if isinstance(value, int | float) and isinstance(name, str):
        return float(value)
    received = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
    raise StepError(
        f"The part {name!r} of the loss has to be a number or a tensor of shape (), with a string as its name, but is "
        f"{received}. To fix, reduce it in loss_function, for example with .mean()."
    )


def check_loss(loss: object, is_training: bool) -> torch.Tensor:
    """Refuses a loss that can't be trained on.

    Args:
        loss: The loss that ``loss_function`` returned.
        is_training: Whether gradients are computed from it.

    Returns:
        The same loss.

    Raises:
        StepError: If it isn't a floating-point tensor of shape (). If it doesn't require a gradient in training.
    """
    if not isinstance(loss, torch.Tensor):
        raise StepError(
            f"loss_function has to return a tensor of shape (), but returned {describe_returned(loss)}. To fix, return "
            "the loss, and don't call .item() or float() on it. Only in validation it may return None, for no loss."
        )
    if loss.dim() != 0 or not loss.is_floating_point():
        raise StepError(
            f"loss_function has to return a floating-point tensor of shape (), but returned shape {tuple(loss.shape)}, "
            f"{loss.dtype}. To fix, reduce it, for example with .mean()."
        )
    if is_training and not loss.requires_grad:
        raise StepError(
            "The loss does not require a gradient, so the network can't be trained. To fix, compute it from the "
            "network's output without .detach(), .item(), torch.no_grad() or a conversion to numpy, and check that the "
            "network has parameters that require a gradient."
        )
    return loss


def _describe_missing(missing: list[str], returned: list[str], is_training: bool) -> str:
    without = " If validation has no loss, give the parameter the default None, and return None where it is."
    return (
        f"loss_function requires {', '.join(map(repr, missing))}, but forward_pass returned "
        f"{', '.join(map(repr, returned)) or 'nothing'}.{did_you_mean(missing[0], returned)} "
        f"To fix, use the same name in both.{'' if is_training else without}"
    )
