"""The default implementation of an iteration: forward pass, loss, backward pass, optimizer step."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import StepError, did_you_mean

ForwardPass = Callable[[Any], Mapping[str, Any]]


class TrainingStep:
    """Trains on a mini-batch in the training phase, and computes its loss in a validation phase."""

    name = "training_step"

    def __init__(
        self,
        forward_pass: ForwardPass,
        loss_function: Callable[..., Any],
        get_loss_value: Callable[..., torch.Tensor | float],
        infer_mini_batch_size: Callable[[Any], int],
    ) -> None:
        """Stores the functions that the user wrote.

        Args:
            forward_pass: Takes a mini-batch, returns a dictionary of outputs.
            loss_function: Takes some of the outputs by keyword, returns the loss, shape (), or a dictionary of the
                loss and its parts.
            get_loss_value: Takes the loss as ``loss_tensor``, returns the value to log.
            infer_mini_batch_size: Takes a mini-batch, returns the number of its samples.

        Raises:
            StepError: If ``loss_function`` can't be called with keyword arguments only.
        """
        self._forward_pass = forward_pass
        self._compute_loss = KeywordFunction(loss_function)
        self._get_loss_value = get_loss_value
        self._infer_mini_batch_size = infer_mini_batch_size

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Switches the network to training or evaluation mode."""
        network_of(run).train(phase.is_training)

    @hookimpl
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> None:
        """Runs one iteration."""
        if not phase.is_training:
            with torch.no_grad():
                compute_loss(run, phase, batch)
            return
        run.call.run_backward(run=run, loss=compute_loss(run, phase, batch))
        use_gradients(run)

    @hookimpl
    def run_forward(self, run: Run, phase: Phase, batch: Any) -> torch.Tensor:
        """Computes the outputs and the loss of a mini-batch."""
        outputs = self._forward_pass(batch)
        if not isinstance(outputs, Mapping):
            raise StepError(
                f"forward_pass has to return a dictionary of outputs by name, but returned {type(outputs).__name__}. "
                'To fix, return e.g. {"output": output, "target": target}.'
            )
        whole, parts = split_loss(self._compute_loss(outputs))
        loss = check_loss(whole, phase.is_training)
        phase.outputs = outputs
        phase.loss = loss.detach()
        phase.samples = self._infer_mini_batch_size(batch)
        phase.values["loss"] = self._get_loss_value(loss_tensor=phase.loss)
        if parts:
            _check_names(parts, run)
            phase.values.update(parts)
        return loss

    @hookimpl
    def run_backward(self, run: Run, loss: torch.Tensor) -> None:
        """Computes the gradients."""
        loss.backward()  # type: ignore[no-untyped-call]

    @hookimpl
    def run_optimizer_step(self, run: Run) -> None:
        """Steps the optimizer and clears the gradients."""
        optimizer = optimizer_of(run)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def compute_loss(run: Run, phase: Phase, batch: Any) -> torch.Tensor:
    """Runs the first part of an iteration: fires `run_forward` and `on_loss_computed`.

    Args:
        run: The run.
        phase: The phase.
        batch: The mini-batch, or a part of it.

    Returns:
        The loss, shape ().
    """
    loss: torch.Tensor = run.call.run_forward(run=run, phase=phase, batch=batch)
    run.call.on_loss_computed(run=run, phase=phase, loss=loss)
    return loss


def use_gradients(run: Run) -> None:
    """Runs the last part of a training iteration, after the backward pass: fires the events up to the optimizer step.

    Args:
        run: The run.
    """
    run.call.on_gradients_ready(run=run)
    if run.call.should_step_optimizer(run=run) is not False:
        run.call.run_optimizer_step(run=run)


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

    def __call__(self, outputs: Mapping[str, Any]) -> Any:
        """Calls the function.

        Args:
            outputs: The outputs that ``forward_pass`` returned.

        Returns:
            The return value of the function.

        Raises:
            StepError: If an output for a required parameter is missing.
        """
        missing = [name for name in self._required if name not in outputs]
        if missing:
            raise StepError(_describe_missing(missing, list(outputs)))
        if self._takes_all:
            return self._function(**outputs)
        arguments = {name: outputs[name] for name in self._required}
        for name in self._optional:
            if name in outputs:
                arguments[name] = outputs[name]
        return self._function(**arguments)


def split_loss(returned: Any) -> tuple[Any, dict[str, torch.Tensor | float]]:
    """Splits the return value of ``loss_function`` into the loss and its parts.

    Args:
        returned: The loss, or a dictionary of the loss, under ``"loss"``, and its parts by name.

    Returns:
        The loss, and the parts, detached.

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


def _check_names(parts: Mapping[str, object], run: Run) -> None:
    duplicates = sorted(parts.keys() & set(run.metrics.names if run.metrics is not None else ()))
    if duplicates:
        raise StepError(
            f"The part '{duplicates[0]}' of the loss has the name of a metric. To fix, rename it in loss_function."
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
            f"loss_function has to return a tensor of shape (), but returned {type(loss).__name__}. "
            "To fix, don't call .item() or float() on the loss."
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


def network_of(run: Run) -> torch.nn.Module:
    """Returns the network of a run.

    Args:
        run: The run.

    Returns:
        The network.

    Raises:
        StepError: If the run has no network.
    """
    if run.network is None:
        raise StepError("The run has no network. To fix, pass it: Run(…, network=network).")
    return run.network


def optimizer_of(run: Run) -> torch.optim.Optimizer:
    """Returns the optimizer of a run.

    Args:
        run: The run.

    Returns:
        The optimizer.

    Raises:
        StepError: If the run has no optimizer.
    """
    if run.optimizer is None:
        raise StepError("The run has no optimizer. To fix, pass it: Run(…, optimizer=optimizer).")
    return run.optimizer


def _describe_missing(missing: list[str], returned: list[str]) -> str:
    return (
        f"loss_function requires {', '.join(map(repr, missing))}, but forward_pass returned "
        f"{', '.join(map(repr, returned)) or 'nothing'}.{did_you_mean(missing[0], returned)} "
        "To fix, use the same name in both."
    )
