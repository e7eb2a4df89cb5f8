"""Finding the value that a decision rests on: an average of a phase, by name."""

from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import HookError, did_you_mean


def phase_to_monitor(run: Run, name: str | None) -> Phase:
    """Finds the phase whose value is monitored.

    Args:
        run: The run.
        name: The name of the phase; None for the one validation phase that votes on the best network, or for training
            where there is no validation.

    Returns:
        The phase.

    Raises:
        HookError: If no phase has that name, or none is given and there are several to choose from.
    """
    if name is None:
        voters = [phase for phase in run.validation if phase.votes] or list(run.validation) or [run.training]
        if len(voters) == 1:
            return voters[0]
        raise HookError(
            f"There are several validation sets, and none was named whose value is to be monitored. To fix, give the "
            f"name of one of them, phase='{voters[0].name}'; there are: {', '.join(one.name for one in voters)}."
        )
    by_name = {phase.name: phase for phase in run.phases}
    if name not in by_name:
        raise HookError(
            f"There is no phase '{name}' to monitor.{did_you_mean(name, by_name)} There are: {', '.join(by_name)}."
        )
    return by_name[name]


def monitored_value(phase: Phase, name: str) -> float:
    """Gives an average of the last pass of a phase.

    Args:
        phase: The phase, which is done.
        name: The name of the average or metric.

    Returns:
        Its value.

    Raises:
        HookError: If the phase has no average of that name.
    """
    value = phase.averages.get(name)
    if value is None:
        raise HookError(
            f"{phase.name} has no average named '{name}' to monitor.{did_you_mean(name, phase.averages)} There are: "
            f"{', '.join(phase.averages) or 'none'}. To fix, name one of them, choose it in config['metrics'], or, if "
            "there is no average at all, register MetricAverages."
        )
    return value
