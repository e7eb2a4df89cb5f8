"""Finds the value that a decision depends on: an average of a phase, by name."""

import logging
from collections.abc import Iterable

from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import HookError, did_you_mean, nearest_name
from torchbase.metrics.directions import Mode
from torchbase.metrics.selection import NAME_OF_THE_LOSS
from torchbase.run_directory.names import VALIDATION_PREFIX

logger = logging.getLogger("torchbase")

PACKAGE = __name__.partition(".")[0]
SIMILARITY_OF_A_MISSPELLING = 0.75  # one wrong letter of four


class Monitor:
    """A value that a hook monitors: its name, and whether lower or higher is better."""

    def __init__(self, hook: str, name: str, mode: Mode | None) -> None:
        """Sets the name and the mode.

        Args:
            hook: The class name of the hook, for messages.
            name: The name of the value, an average or metric.
            mode: Whether lower (``"min"``) or higher (``"max"``) is better; None if it follows from the name.

        Raises:
            HookError: If the mode is none of these.
        """
        if mode not in (None, "min", "max"):
            raise HookError(f"The mode of {hook} has to be 'min' or 'max', but got {mode!r}.")
        self.name, self._hook, self._mode = name, hook, mode
        self._is_name_checked = False

    def of_same_value(self, hook: str, mode: Mode | None = None) -> "Monitor":
        """Returns a monitor of the same value for another hook.

        Args:
            hook: The class name of the other hook, for messages.
            mode: Its mode; None for that of this monitor.
        """
        return Monitor(hook, self.name, mode or self._mode)

    def mode_in(self, run: Run) -> Mode | None:
        """Returns whether lower or higher is better.

        Args:
            run: The run.

        Returns:
            The mode that was set. Otherwise ``"min"`` for the loss, and for a metric what it declares; None if that
            isn't known.
        """
        if self._mode is not None or self.name == NAME_OF_THE_LOSS:
            return self._mode or "min"
        return None if run.metrics is None else run.metrics.modes.get(self.name)

    def known_mode_in(self, run: Run) -> Mode:
        """Returns whether lower or higher is better, as `mode_in`.

        Args:
            run: The run.

        Raises:
            HookError: If it isn't known.
        """
        mode = self.mode_in(run)
        if mode is None:
            raise HookError(self.describe_unknown_mode(run))
        return mode

    def describe_unknown_mode(self, run: Run) -> str:
        """Returns a message: whether lower or higher is better isn't known.

        Args:
            run: The run.
        """
        known = [NAME_OF_THE_LOSS, *(run.metrics.names if run.metrics is not None else ())]
        return (
            f"{self._hook} monitors '{self.name}', and it isn't known whether lower or higher is better."
            f"{did_you_mean(self.name, known)} It is known for the loss and for the metrics in config['metrics'] that "
            f"declare it. To fix, pass mode='min' or mode='max' to {self._hook}, or declare a metric of your own with "
            "@lower_is_better or @higher_is_better."
        )

    def check_name(self, run: Run, phases: Iterable[Phase]) -> None:
        """Compares the name with those that the rehearsal has found, once. Without a rehearsal, it does nothing.

        A hook may log more values than the rehearsal finds. If only hooks of torchbase are registered, a misspelt name
        is an error, otherwise a warning.

        Args:
            run: The run, before its first epoch.
            phases: The phases whose value is monitored.

        Raises:
            HookError: If the name is misspelt.
        """
        if self._is_name_checked:
            return
        self._is_name_checked = True
        for phase in phases:
            names = phase.value_names
            if names is not None and self.name not in names.of_epochs:
                self._report_missing_name(phase, names.of_epochs, is_complete=_is_complete(run, phase))
                return

    def value_of(self, phase: Phase) -> float:
        """Returns the average of the last pass of a phase.

        Args:
            phase: The phase, after its last mini-batch.

        Raises:
            HookError: If the phase has no average of that name.
        """
        return average_of(phase, self.name, self._hook)

    def _report_missing_name(self, phase: Phase, names: Iterable[str], *, is_complete: bool) -> None:
        if self.name == NAME_OF_THE_LOSS:
            raise HookError(
                f"{self._hook} monitors the loss, and {phase.name} has none: loss_function returned None for its first "
                f"mini-batch. To fix, let it monitor another value, such as {self._hook}('accuracy', mode='max'), with "
                f"a metric of config['metrics'], or a mode for a value of your own. Available: "
                f"{', '.join(names) or 'none'}."
            )
        misspelt = nearest_name(self.name, names, SIMILARITY_OF_A_MISSPELLING)
        problem = (
            f"{self._hook} monitors '{self.name}', and the first mini-batch of {phase.name} has no value of that name."
            f"{did_you_mean(self.name, names)} Available: {', '.join(names)}."
        )
        if misspelt is not None and is_complete:
            raise HookError(f"{problem} To fix, pass one of these names, or choose the metric in config['metrics'].")
        if misspelt is not None or is_complete:
            logger.warning("%s If it isn't logged until the end of the phase, this will be an error.", problem)


def monitor_of_best(run: Run) -> Monitor | None:
    """Returns the monitor of the value by which the best network is chosen; None if no hook says which.

    Args:
        run: The run, once the engine has started it. A hook that chooses the best network, such as `BestValidation`,
            has the monitor as its attribute ``monitor_of_best``.
    """
    found = (getattr(hook, "monitor_of_best", None) for hook in run.hooks.values())
    return next((monitor for monitor in found if isinstance(monitor, Monitor)), None)


def phase_to_monitor(run: Run, name: str | None) -> Phase:
    """Finds the phase whose value is monitored.

    Args:
        run: The run.
        name: The name of the phase. None stands for the only validation phase that votes on the best network, or for
            training if there is no validation.

    Returns:
        The phase.

    Raises:
        HookError: If no phase has that name. If the name is None and several validation phases vote.
    """
    if name is None:
        voters = [phase for phase in run.validation if phase.votes] or list(run.validation) or [run.training]
        if len(voters) == 1:
            return voters[0]
        raise HookError(
            f"There are several validation sets, and the one to monitor is not named. To fix, pass its name, such as "
            f"phase='{voters[0].name}'. Available: {', '.join(phase.name for phase in voters)}."
        )
    by_name = {phase.name: phase for phase in run.phases}
    if name not in by_name:
        raise HookError(
            f"There is no phase '{name}' to monitor.{_did_you_mean_phase(name, by_name)} Available: "
            f"{', '.join(by_name)}."
        )
    return by_name[name]


def average_of(phase: Phase, name: str, hook: str) -> float:
    """Returns an average of the last pass of a phase.

    Args:
        phase: The phase, after its last mini-batch.
        name: The name of the average or metric.
        hook: The class name of the hook that monitors it, for the message.

    Returns:
        The average.

    Raises:
        HookError: If the phase has no average of that name.
    """
    value = phase.averages.get(name)
    if value is None:
        raise HookError(
            f"{phase.name} has no average named '{name}', which {hook} monitors.{did_you_mean(name, phase.averages)} "
            f"Available: {', '.join(phase.averages) or 'none'}. To fix, pass one of these names, or choose the metric "
            "in config['metrics']. If there is no average at all, register MetricAverages before this hook."
        )
    return value


def _did_you_mean_phase(name: str, known: Iterable[str]) -> str:
    # The console and the commands name a validation phase without its prefix.
    full_names = {short: full for full in known for short in (full.removeprefix(VALIDATION_PREFIX), full)}
    nearest = nearest_name(name, full_names)
    return "" if nearest is None else f" Did you mean {full_names[nearest]!r}?"


def _is_complete(run: Run, phase: Phase) -> bool:
    """Whether the rehearsal finds all names that hooks log in a phase."""
    kinds = [type(hook) for hook in run.hooks.values()]
    return not phase.is_training and all(kind.__module__.partition(".")[0] == PACKAGE for kind in kinds)
