"""The run, which is passed to the hooks of nearly every event, with its phases and its progress.

Plain dataclasses. The engine and the training step write them, hooks read them.
"""

import inspect
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import torch

from torchbase.distributed.processes import Processes, SingleProcess
from torchbase.engine.hook_calls import HookCalls, NotRunning
from torchbase.engine.iteration_values import check_is_number
from torchbase.engine.logged_names import LoggedNames, Owner
from torchbase.engine.logging_errors import LoggingErrors
from torchbase.engine.loss_weights import LossWeights
from torchbase.engine.modes import frozen_in_eval
from torchbase.engine.optimizer_groups import GroupValues, values_of_groups
from torchbase.engine.phase import Phase, Progress
from torchbase.engine.run_table import table_of_averages
from torchbase.engine.turns import Turns
from torchbase.errors import StepError
from torchbase.listeners import Listener
from torchbase.metrics.selection import SelectedMetrics
from torchbase.randomness.run_randomness import Randomness
from torchbase.randomness.streams import RandomStates
from torchbase.run_directory.directory import RunDirectory


@dataclass(frozen=True)
class BestLoss:
    """The lowest loss of a validation set so far.

    Attributes:
        loss: The average over the samples of the set.
        epoch: The epoch in which it was measured; the first is 1.
        iteration: The number of training iterations that were finished then.
    """

    loss: float
    epoch: int
    iteration: int = 0


@dataclass(repr=False)
class Run:
    """A training run: the network, the data and the progress.

    Attributes:
        training: The training phase.
        max_epochs: The number of epochs. The run ends earlier if a hook requests it, or after ``max_iterations``. If
            the config has only ``num_iterations``, this is at least the number of epochs that these take.
        max_iterations: The number of training iterations after which the run ends, also within an epoch; None for whole
            epochs.
        validation: The validation phases, in the order in which they run after training.
        network: The network, without any wrapper; None if the engine is used without a network.
        optimizer: The optimizer of the network, or None. With several (`NamedOptimizers`), that of the turn within a
            turn, and all of them otherwise.
        turns: How several optimizers take turns in a training iteration; None with a single one.
        turn: The name of the optimizer whose turn it is; None outside of turns, and with a single optimizer.
        metrics: Computes the chosen metrics of a mini-batch or an epoch from the outputs of ``forward_pass``.
        loss_weights: Returns how much a mini-batch weighs in averages of its loss; None for its samples.
        device: The device of the network.
        config: The config dictionary as the user passed it, converted to JSON types.
        run_directory: The directory of the run (`torchbase.run_directory.directory.RunDirectory`).
        randomness: The seed of the run. If it is None, the random streams are not seeded.
        processes: The processes that run this training together; by default this one alone.
        epoch: The current epoch, or the last one between epochs. The first is 1; before it, this is 0.
        epochs_done: The number of finished epochs, validation included.
        best_losses: The lowest loss of each validation phase so far, by the name of the phase.
        stop_reason: Why the run stops before its last epoch, or None.
        stop_request: With several processes, why this process asks for a stop, until all of them know.
        current_phase: The phase that is running, or None.
        is_between_iterations: Whether the state of the run is complete: all hooks of the last iteration have been
            called, and the next iteration hasn't started. The engine sets it.
        random_states: The random streams to restore right before the next iteration, from a checkpoint, or None.
        groups_as_built: The values of the optimizer's parameter groups when this object was made, before a scheduler
            changed them. A resumed run compares them, to see which were changed in the code or the config.
        hooks_changed_by_forward: The names of the hooks whose state ``forward_pass`` changes, such as a queue or a
            replay buffer. The rehearsal finds them.
        frozen_in_eval: The modules of the network that were frozen and in evaluation mode when the run was created.
            They stay in evaluation mode in training, as long as they are frozen.
        logged_names: The names of the values that hooks and ``forward_pass`` log.
        logging_errors: How errors of logging backends are handled. The engine sets it.
        hooks: The registered hooks by name, in the order in which they are called. The engine sets it.
        listeners: The hooks of each event, in the order in which they are called, by event. The engine sets it.
        call: The events by name; calling one fires it. The engine sets it.
        fired_events: The names of the events that have fired since `on_run_start`. The engine sets it.
    """

    training: Phase
    max_epochs: int
    validation: tuple[Phase, ...] = ()
    network: torch.nn.Module | None = None
    optimizer: torch.optim.Optimizer | None = None
    turns: Turns | None = None
    metrics: SelectedMetrics | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    config: Mapping[str, Any] = field(default_factory=dict)
    run_directory: RunDirectory | None = None
    randomness: Randomness | None = None
    processes: Processes = field(default_factory=SingleProcess)
    max_iterations: int | None = None
    loss_weights: LossWeights | None = None
    epoch: int = 0
    epochs_done: int = 0
    best_losses: dict[str, BestLoss] = field(default_factory=dict)
    stop_reason: str | None = None
    stop_request: str | None = None
    current_phase: Phase | None = None
    turn: str | None = None
    is_between_iterations: bool = False
    random_states: RandomStates | None = None
    groups_as_built: tuple[GroupValues, ...] = field(init=False)
    hooks_changed_by_forward: tuple[str, ...] = ()
    frozen_in_eval: tuple[torch.nn.Module, ...] = field(init=False)
    logged_names: LoggedNames = field(default_factory=LoggedNames)
    logging_errors: LoggingErrors = field(default_factory=lambda: LoggingErrors("raise"))
    hooks: Mapping[str, object] = field(default_factory=dict)
    listeners: Mapping[str, tuple[Listener, ...]] = field(default_factory=dict)
    call: HookCalls = field(default_factory=NotRunning)
    fired_events: Set[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Copies the values of the optimizer's parameter groups, and finds what stays in evaluation mode."""
        self.groups_as_built = () if self.optimizer is None else tuple(values_of_groups(self.optimizer))
        self.frozen_in_eval = () if self.network is None else frozen_in_eval(self.network)

    def __str__(self) -> str:
        """Returns how far the run is, such as ``3 of 10 epochs, 1,500 iterations done, in runs/first``."""
        iterations = f"{self.progress.iterations:,}" + (f" of {self.max_iterations:,}" if self.max_iterations else "")
        where = "" if self.run_directory is None else f", in {self.run_directory.path}"
        return f"{self.epochs_done:,} of {self.max_epochs:,} epochs, {iterations} iterations done{where}"

    def __repr__(self) -> str:
        """Returns the same in angle brackets."""
        return f"<{type(self).__name__}: {self}>"

    def _repr_html_(self) -> str:
        averages = {phase.name: phase.averages for phase in self.phases}
        return table_of_averages(averages, self.best_losses, repr(self))

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The training phase and the validation phases, in the order in which an epoch runs them."""
        return (self.training, *self.validation)

    @property
    def phases_due(self) -> tuple[Phase, ...]:
        """The phases of this epoch: training, and the validation phases that are due at its end."""
        return tuple(phase for phase in self.phases if self.is_due(phase))

    @property
    def phases_due_within_training(self) -> tuple[Phase, ...]:
        """The validation phases that run before the next training iteration.

        After the last iteration of the run, all of them, unless it ends an epoch.
        """
        done = self.progress.iterations
        is_cut = self.has_done_all_iterations and not self.training.is_at_end_of(self.epoch)
        due = [phase for phase in self.validation if is_cut or phase.every.is_due_after(iterations=done)]
        return tuple(phase for phase in due if phase.progress.done_after != done)

    @property
    def has_done_all_iterations(self) -> bool:
        """Whether the last training iteration is finished. False if their number isn't limited."""
        return self.max_iterations is not None and self.progress.iterations >= self.max_iterations

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train or to validate."""
        if not self.has_done_all_iterations:
            return self.epochs_done >= self.max_epochs
        progress, is_between_epochs = self.progress, self.epoch == self.epochs_done
        return progress.done_after == progress.iterations and (is_between_epochs or not progress.is_done)

    def is_due(self, phase: Phase) -> bool:
        """Whether a phase runs in this epoch: training, or a validation at its end.

        Args:
            phase: One of the phases.
        """
        is_last = self.epoch == self.max_epochs or self.has_done_all_iterations
        return phase.is_training or is_last or phase.every.is_due_after(epochs=self.epoch)

    def has_done(self, phase: Phase) -> bool:
        """Whether a phase is finished in this epoch.

        Args:
            phase: One of the phases that are due.
        """
        is_current = phase.is_training or phase.progress.done_after == self.progress.iterations
        return phase.progress.is_done and is_current

    def curve(self, phase: Phase) -> tuple[str, int]:
        """Returns the step at which the averages of a finished phase are logged.

        Args:
            phase: The phase.

        Returns:
            The unit of the steps, ``epochs`` or ``training_iterations``, and the step.
        """
        return ("training_iterations", self.progress.iterations) if phase.is_within_training else ("epochs", self.epoch)

    @property
    def progress(self) -> Progress:
        """The progress of the training phase."""
        return self.training.progress

    def log(self, name: str, value: torch.Tensor | float) -> None:
        """Logs a value of the current iteration or, between phases, of the current epoch.

        The value of an iteration stays on its device until a block of iterations is read. It is also averaged over the
        epoch.

        Args:
            name: The name of the value. Its tag is ``PHASE/NAME/iterations`` or ``training/NAME/epochs``.
            value: A number, or a tensor with one element.

        Raises:
            StepError: If the value isn't a number, or a tensor doesn't have exactly one element. If the name is that of
                the loss, of a part of it, of a metric, or of a value that another hook logs.
        """
        frame = inspect.currentframe()
        caller = None if frame is None else frame.f_back
        self.log_as("a function" if caller is None else caller.f_code, name, value)

    def log_as(self, owner: Owner, name: str, value: torch.Tensor | float) -> None:
        """Logs a value for another function; see `log`.

        Args:
            owner: The function to which the name belongs, or its description.
            name: The name of the value.
            value: A number, or a tensor with one element.

        Raises:
            StepError: As `log`.
        """
        if isinstance(value, torch.Tensor):
            if value.numel() != 1:
                raise StepError(
                    f"run.log('{name}', …) takes a number or a tensor with one element, but got a tensor of shape "
                    f"{tuple(value.shape)}. To fix, reduce it first, for example with .mean()."
                )
            value = value.detach().reshape(()).clone()
        elif type(value) not in (float, int):
            check_is_number(name, value)
        if self.current_phase is not None:
            self.logged_names.log(name, owner, self.current_phase.values, self.metrics)
            self.current_phase.values[name] = value
        else:
            self.logged_names.log_between_phases(name, owner, self.epoch, self.training.averages, self.metrics)
            self.call.log_scalars(run=self, scalars={self.training.tag(name, "epochs"): float(value)}, step=self.epoch)

    def read_values(self) -> None:
        """Copies the values of finished iterations to the host and fires `on_values_read`.

        Call it in `on_iteration_end` or between iterations. Values that are logged later are in the next block.
        """
        for phase in self.phases:
            phase.store_values()
            rows = phase.block.read()
            if rows:
                self.call.on_values_read(run=self, phase=phase, rows=rows)

    def request_stop(self, reason: str) -> None:
        """Requests that the run stops before the next iteration.

        With several processes, it is enough that one of them requests it: all stop after the same iteration.

        Args:
            reason: The reason, for the summary, such as ``"the loss of 'valid' has not improved for 5 epochs"``. If
                several are passed, the first is recorded.
        """
        if self.processes.count > 1:
            self.stop_request = self.stop_request or reason
        elif self.stop_reason is None:
            self.stop_reason = reason

    def should_stop_now(self) -> bool:
        """Returns whether the run stops here. Several processes decide together, so all of them have to call it."""
        if self.stop_reason is None and self.processes.count > 1:
            requests = self.processes.gather(self.stop_request, "the decision to stop")
            self.stop_reason = next((request for request in requests if request is not None), None)
            if self.stop_reason is not None:  # else a signal may just have requested a stop that nobody knows of
                self.stop_request = None
        return self.stop_reason is not None
