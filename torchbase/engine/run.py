"""What a hook is given: the run, its phases, and how far it is.

Plain dataclasses. The engine and the training step write them, hooks read them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from torchbase.engine.logging_errors import LoggingErrors
from torchbase.engine.phase import Phase, Progress
from torchbase.errors import HookError, StepError
from torchbase.listeners import Listener
from torchbase.metrics.selection import SelectedMetrics
from torchbase.randomness import Randomness, RandomStates
from torchbase.run_directory.directory import RunDirectory


class HookCalls(Protocol):
    """The events, callable by name: ``run.call.log_scalars(run=run, scalars={...}, step=1)``."""

    def __getattr__(self, event: str) -> Callable[..., Any]:
        """Gives what tells an event to the hooks that implement it."""


@dataclass(frozen=True)
class BestLoss:
    """The lowest loss of a validation set so far.

    Attributes:
        loss: The average over the set's samples.
        epoch: The epoch after which, or within which, it was measured; the first is 1.
        iteration: How many training iterations were done then.
    """

    loss: float
    epoch: int
    iteration: int = 0


class _NotRunning:
    def __getattr__(self, event: str) -> Callable[..., Any]:
        raise HookError(
            f"No hook can be told of '{event}': the run has not been given to an engine yet. "
            "To fix, call engine.run(run)."
        )


@dataclass
class Run:
    """A training run: what is trained, on what, and how far it is.

    Attributes:
        training: The training phase.
        max_epochs: How many epochs the run has; it ends earlier when a hook asks for it.
        validation: The validation phases, in the order in which they run after each training phase.
        network: The network, without any wrapper; None where the Engine is used alone.
        optimizer: The optimizer of the network, likewise.
        metrics: Computes the chosen metrics from what ``forward_pass`` returned, of a mini-batch and of an epoch.
        device: Where the network lives.
        config: The config dictionary as it was given, in the form in which JSON keeps it.
        run_directory: What keeps the run on disk (`torchbase.run_directory.directory.RunDirectory`).
        randomness: The seed of the run; without one, the random streams are left alone.
        epoch: The epoch that is being run, or was run last; the first is 1, and 0 stands before it.
        epochs_done: How many epochs are done, validation included.
        best_losses: The lowest loss of each validation phase so far, by the phase's name.
        stop_reason: Why the run is to stop before its last epoch; None when it isn't.
        current_phase: The phase that is running, if any.
        is_between_iterations: Whether the state of the run is whole: every hook was told of all that is done, and the
            next iteration hasn't begun. The engine sets it.
        random_states: Random streams to put in place right before the next iteration; a checkpoint gives them.
        logging_errors: What becomes of the errors of logging backends. The engine sets it.
        hooks: The registered hooks by name, in the order in which they run. The engine sets it.
        listeners: By event, the hooks that it is told to, in the order in which they are called. The engine sets it.
        call: The events, callable by name. The engine sets it.
    """

    training: Phase
    max_epochs: int
    validation: tuple[Phase, ...] = ()
    network: torch.nn.Module | None = None
    optimizer: torch.optim.Optimizer | None = None
    metrics: SelectedMetrics | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    config: Mapping[str, Any] = field(default_factory=dict)
    run_directory: RunDirectory | None = None
    randomness: Randomness | None = None
    epoch: int = 0
    epochs_done: int = 0
    best_losses: dict[str, BestLoss] = field(default_factory=dict)
    stop_reason: str | None = None
    current_phase: Phase | None = None
    is_between_iterations: bool = False
    random_states: RandomStates | None = None
    logging_errors: LoggingErrors = field(default_factory=lambda: LoggingErrors("raise"), repr=False)
    hooks: Mapping[str, object] = field(default_factory=dict, repr=False)
    listeners: Mapping[str, tuple[Listener, ...]] = field(default_factory=dict, repr=False)
    call: HookCalls = field(default_factory=_NotRunning, repr=False)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The training phase and the validation phases, in the order in which an epoch runs them."""
        return (self.training, *self.validation)

    @property
    def phases_due(self) -> tuple[Phase, ...]:
        """Those that this epoch has: training, and the validation phases that belong to its end."""
        is_last = self.epoch == self.max_epochs
        due = [phase for phase in self.validation if is_last or phase.every.is_due_after(epochs=self.epoch)]
        return (self.training, *due)

    @property
    def phases_due_within_training(self) -> tuple[Phase, ...]:
        """The validation phases that are to be run before the next training iteration."""
        done = self.progress.iterations
        due = [phase for phase in self.validation if phase.every.is_due_after(iterations=done)]
        return tuple(phase for phase in due if phase.progress.done_after != done)

    def has_done(self, phase: Phase) -> bool:
        """Tells whether nothing is left to do of a phase in this epoch.

        Args:
            phase: One of the phases that are due.
        """
        is_of_now = not phase.is_within_training or phase.progress.done_after == self.progress.iterations
        return phase.progress.is_done and is_of_now

    def curve(self, phase: Phase) -> tuple[str, int]:
        """Tells where the values of a phase that is done stand on its curves.

        Args:
            phase: The phase.

        Returns:
            What the steps of its curves count, ``epochs`` or ``training_iterations``, and the step.
        """
        return ("training_iterations", self.progress.iterations) if phase.is_within_training else ("epochs", self.epoch)

    @property
    def progress(self) -> Progress:
        """How far the training phase is."""
        return self.training.progress

    def log(self, name: str, value: torch.Tensor | float) -> None:
        """Logs a value: of the current iteration where there is one, else of the training at the current epoch.

        The value of an iteration stays on its device until a block of iterations is read; it is also averaged over
        the epoch.

        Args:
            name: The name of the value; its tag is ``PHASE/NAME/iterations`` or ``training/NAME/epochs``.
            value: A number, or a tensor of one element.

        Raises:
            StepError: If a tensor of several elements is given.
        """
        if isinstance(value, torch.Tensor):
            if value.numel() != 1:
                raise StepError(
                    f"run.log('{name}', …) takes a number or a tensor of one element, and got a tensor of shape "
                    f"{tuple(value.shape)}. To fix, reduce it first, e.g. with .mean()."
                )
            value = value.detach().reshape(()).clone()
        if self.current_phase is not None:
            self.current_phase.values[name] = value
        else:
            self.call.log_scalars(run=self, scalars={self.training.tag(name, "epochs"): float(value)}, step=self.epoch)

    def read_values(self) -> None:
        """Brings the values of finished iterations to the host and gives them to the hooks.

        To be called from `on_iteration_end` or between iterations; what is logged afterwards comes with the next block.
        """
        for phase in self.phases:
            phase.store_values()
            rows = phase.block.read()
            if rows:
                self.call.on_values_read(run=self, phase=phase, rows=rows)

    def request_stop(self, reason: str) -> None:
        """Asks the run to end before the next iteration.

        Args:
            reason: Why, for the summary, e.g. ``"the loss of 'valid' has not improved for 5 epochs"``. The first
                reason stays.
        """
        if self.stop_reason is None:
            self.stop_reason = reason
