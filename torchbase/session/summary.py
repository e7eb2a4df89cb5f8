"""The summary of a run, which a session returns."""

from collections.abc import Mapping
from dataclasses import dataclass

from torchbase.engine.run import BestLoss, Run
from torchbase.engine.run_table import table_of_averages
from torchbase.engine.votes import BestNetwork
from torchbase.hooks import BestValidation


@dataclass(frozen=True)
class RunSummary:
    """How a run ended.

    Attributes:
        run_dir: The path of the run directory.
        epochs_done: Number of completed epochs, including those before a resume.
        best_losses: The lowest loss of each validation set and its epoch, by phase (``validation-NAME``).
        averages: The averages of the last completed epoch, by phase and by name.
        stop_reason: Why the run stopped.
        iterations: Number of completed training iterations, including those before a resume.
        best_network: The epoch of the network that is saved as the best, and the values by which it was chosen; None
            if none was saved.
    """

    run_dir: str
    epochs_done: int
    best_losses: Mapping[str, BestLoss]
    averages: Mapping[str, Mapping[str, float]]
    stop_reason: str
    iterations: int = 0
    best_network: BestNetwork | None = None

    def _repr_html_(self) -> str:
        """Returns an HTML table for notebooks."""
        ending = f"{self.epochs_done} epochs, {self.iterations} iterations, {self.stop_reason}: {self.run_dir}"
        return table_of_averages(self.averages, self.best_losses, ending)


def summarize(run: Run, run_dir: str) -> RunSummary:
    """Summarizes a run.

    Args:
        run: The run, after the engine has run it.
        run_dir: The path of the run directory.

    Returns:
        The summary.
    """
    return RunSummary(
        run_dir=run_dir,
        epochs_done=run.epochs_done,
        iterations=run.progress.iterations,
        best_losses=dict(run.best_losses),
        best_network=next((one.best_network for one in run.hooks.values() if isinstance(one, BestValidation)), None),
        averages={phase.name: dict(phase.averages) for phase in run.phases},
        stop_reason=run.stop_reason or f"all {_everything(run)} are done",
    )


def _everything(run: Run) -> str:
    return f"{run.max_iterations} iterations" if run.has_done_all_iterations else f"{run.max_epochs} epochs"
