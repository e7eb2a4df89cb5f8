"""Finds the value that a decision depends on: an average of a phase, by name."""

from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import HookError, did_you_mean


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
            f"There is no phase '{name}' to monitor.{did_you_mean(name, by_name)} Available: {', '.join(by_name)}."
        )
    return by_name[name]


def monitored_value(phase: Phase, name: str) -> float:
    """Returns an average of the last pass of a phase.

    Args:
        phase: The phase, after its last mini-batch.
        name: The name of the average or metric.

    Returns:
        The average.

    Raises:
        HookError: If the phase has no average of that name.
    """
    value = phase.averages.get(name)
    if value is None:
        raise HookError(
            f"{phase.name} has no average named '{name}' to monitor.{did_you_mean(name, phase.averages)} Available: "
            f"{', '.join(phase.averages) or 'none'}. To fix, pass one of these names, or choose the metric in "
            "config['metrics']. If there is no average at all, register MetricAverages."
        )
    return value
