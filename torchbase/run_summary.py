"""What a session returns when it has trained."""

from collections.abc import Mapping
from dataclasses import dataclass

from torchbase.run import BestLoss, Run


@dataclass(frozen=True)
class RunSummary:
    """How a run ended.

    Attributes:
        run_dir: The path of the run directory.
        epochs_done: How many epochs are done, those before a resume included.
        best_losses: The lowest loss of each validation set and its epoch, by phase (``validation-NAME``).
        averages: The averages of the last epoch that was done, by phase and by name.
        stop_reason: Why the run stopped.
    """

    run_dir: str
    epochs_done: int
    best_losses: Mapping[str, BestLoss]
    averages: Mapping[str, Mapping[str, float]]
    stop_reason: str


def summarize(run: Run, run_dir: str) -> RunSummary:
    """Sums up a run.

    Args:
        run: The run, after the engine has run it.
        run_dir: The path of its directory.

    Returns:
        The summary.
    """
    return RunSummary(
        run_dir=run_dir,
        epochs_done=run.epochs_done,
        best_losses=dict(run.best_losses),
        averages={phase.name: dict(phase.averages) for phase in run.phases},
        stop_reason=run.stop_reason or f"all {run.max_epochs} epochs are done",
    )
