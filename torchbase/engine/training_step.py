"""The default implementation of an iteration: forward pass, loss, backward pass, optimizer step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from torchbase.engine.closures import check_steps_without_closure
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.loss_weights import Weight, scale_gradient, share_of
from torchbase.engine.losses import KeywordFunction, check_loss, split_loss
from torchbase.engine.modes import set_mode
from torchbase.engine.named_optimizers import by_name
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import HookError, StepError, describe_returned, did_you_mean
from torchbase.listeners import without_wrappers
from torchbase.metrics.selection import NAME_OF_THE_LOSS

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
    def on_run_start(self, run: Run) -> None:
        """Checks that the optimizer can be stepped."""
        check_steps_without_closure(run, self.name)

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Switches the network to training or evaluation mode; ``run.frozen_in_eval`` stays in evaluation mode."""
        set_mode(network_of(run), phase.is_training, run.frozen_in_eval)

    @hookimpl
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> None:
        """Runs one iteration."""
        if not phase.is_training:
            with torch.no_grad():
                compute_loss(run, phase, batch)
            return
        self.compute_gradients(run, phase, batch)
        use_gradients(run)

    def compute_gradients(self, run: Run, phase: Phase, batch: Any) -> None:
        """Computes the gradients of a mini-batch, and adds them to those that are there.

        Args:
            run: The run.
            phase: The training phase.
            batch: The mini-batch.
        """
        run.call.run_backward(run=run, loss=loss_to_train_on(compute_loss(run, phase, batch)))

    @hookimpl
    def run_part(self, run: Run, phase: Phase, batch: Any, share: Weight) -> None:
        """Computes a part of a mini-batch and, in training, its gradients."""
        if not phase.is_training:
            with torch.no_grad():
                compute_loss(run, phase, batch)
            return
        loss = loss_to_train_on(compute_loss(run, phase, batch))
        backward_of_part(run, phase, loss, share)

    @hookimpl
    def run_forward(self, run: Run, phase: Phase, batch: Any) -> torch.Tensor | None:
        """Computes the outputs and the loss of a mini-batch; in validation, there may be no loss."""
        outputs = self._forward_pass(batch)
        if not isinstance(outputs, Mapping):
            raise StepError(
                "forward_pass has to return a dictionary of outputs by name, but returned "
                f'{describe_returned(outputs)}. To fix, return e.g. {{"output": output, "target": target}}.'
            )
        whole, parts = split_loss(self._compute_loss(outputs, phase.is_training))
        if run.loss_weights is not None:
            whole, parts = run.loss_weights.weigh(phase, batch, outputs, whole, parts)
        if whole is None and not phase.is_training:
            phase.outputs, phase.loss, phase.samples = outputs, None, self._infer_mini_batch_size(batch)
            self._set_parts(run, phase, parts)
            return None
        loss = check_loss(whole, phase.is_training)
        phase.outputs = outputs
        phase.loss = loss.detach()
        phase.samples = self._infer_mini_batch_size(batch)
        if NAME_OF_THE_LOSS in phase.values:  # the usual case is that it isn't
            run.logged_names.check_set(NAME_OF_THE_LOSS, phase.values)
        phase.values[NAME_OF_THE_LOSS] = self._get_loss_value(loss_tensor=phase.loss)
        self._set_parts(run, phase, parts)
        return loss

    @staticmethod
    def _set_parts(run: Run, phase: Phase, parts: Mapping[str, torch.Tensor | float]) -> None:
        if parts:
            _check_names(parts, run, phase)
            phase.values.update(parts)

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


def compute_loss(run: Run, phase: Phase, batch: Any) -> torch.Tensor | None:
    """Runs the first part of an iteration: fires `run_forward` and, if there is a loss, `on_loss_computed`.

    Args:
        run: The run.
        phase: The phase.
        batch: The mini-batch, or a part of it.

    Returns:
        The loss, shape (); None in a validation without a loss.
    """
    loss: torch.Tensor | None = run.call.run_forward(run=run, phase=phase, batch=batch)
    if loss is not None:
        run.call.on_loss_computed(run=run, phase=phase, loss=loss)
    return loss


def loss_to_train_on(loss: torch.Tensor | None) -> torch.Tensor:
    """Returns a loss that has to be there.

    Args:
        loss: What `compute_loss` returned in training.

    Raises:
        StepError: If a hook that replaces or wraps `run_forward` returned None.
    """
    if loss is None:
        raise StepError(
            "No hook that implements or wraps run_forward returned a loss in training. To fix, return the loss in "
            "each of them: a wrapper returns the result of its yield."
        )
    return loss


def backward_of_part(run: Run, phase: Phase, loss: torch.Tensor, share: Weight) -> None:
    """Computes the gradients of a part of a mini-batch, weighted by its share: fires `run_backward`.

    Args:
        run: The run.
        phase: The training phase. Its ``weight`` becomes that of the whole mini-batch, for hooks that use it.
        loss: The loss of the part, shape ().
        share: The share of the part in the weight of the mini-batch.
    """
    if phase.loss_weight is not None:
        phase.loss_weight = phase.loss_weight._replace(value=share_of(phase.loss_weight.value, share))
    else:
        phase.samples = round(phase.samples / float(share))
    scale_gradient(loss, share)
    run.call.run_backward(run=run, loss=loss)


def other_hooks_that_run_iterations(run: Run, *known: str) -> list[str]:
    """Returns the hooks that replace the training step.

    Args:
        run: The run, once the engine has started it.
        *known: Names of hooks to leave out.

    Returns:
        The names of the hooks that implement `run_iteration`, except wrappers, the training step and those in
        ``known``.
    """
    return [name for name in without_wrappers(run.listeners["run_iteration"]) if name not in ("training_step", *known)]


def use_gradients(run: Run) -> None:
    """Runs the last part of a training iteration, after the backward pass: fires the events up to the optimizer step.

    Args:
        run: The run.
    """
    run.call.on_gradients_ready(run=run)
    if run.call.should_step_optimizer(run=run) is not False:
        run.call.run_optimizer_step(run=run)


def _check_names(parts: Mapping[str, object], run: Run, phase: Phase) -> None:
    duplicates = sorted(parts.keys() & set(run.metrics.names if run.metrics is not None else ()))
    if duplicates:
        raise StepError(
            f"The part '{duplicates[0]}' of the loss has the name of a metric. To fix, rename it in loss_function."
        )
    for name in parts:
        run.logged_names.check_set(name, phase.values)


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


def optimizer_named(run: Run, name: str | None, hook: str) -> torch.optim.Optimizer:
    """Returns the optimizer that a hook is for.

    Args:
        run: The run, outside of turns.
        name: The name of the optimizer; None for a single one, which has no name.
        hook: The class name of the hook, for the message.

    Raises:
        StepError: If the run has no optimizer.
        HookError: If there are several and none of this name, or a single one and a name.
    """
    optimizers = by_name(optimizer_of(run))
    if name in optimizers:
        return optimizers[name]
    if None in optimizers:
        raise HookError(
            f"{hook} is for the optimizer '{name}', and the run has a single optimizer, without a name. To fix, remove "
            "the argument optimizer."
        )
    available = [str(one) for one in optimizers]
    which = "none of them." if name is None else f"{name!r}.{did_you_mean(name, available)}"
    raise HookError(
        f"The run has the optimizers {', '.join(map(repr, available))}, and {hook} is for {which} To fix, pass the "
        f"name of one, {hook}(…, optimizer={available[0]!r})."
    )
