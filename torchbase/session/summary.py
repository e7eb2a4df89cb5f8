"""The summary of a run, which a session returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from torchbase.engine.run import BestLoss, Run


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
    """

    run_dir: str
    epochs_done: int
    best_losses: Mapping[str, BestLoss]
    averages: Mapping[str, Mapping[str, float]]
    stop_reason: str
    iterations: int = 0

    def _repr_html_(self) -> str:
        """Returns an HTML table for notebooks: https://ipython.readthedocs.io/en/stable/config/integrating.html."""
        names = list(dict.fromkeys(name for averages in self.averages.values() for name in averages))
        head = _row("th", ["", *names, "lowest loss", "in epoch"])
        rows = [_row("td", [phase, *self._cells(phase, names)]) for phase in self.averages]
        ending = f"{self.epochs_done} epochs, {self.iterations} iterations, {self.stop_reason}: {self.run_dir}"
        return f"<table>{head}{''.join(rows)}</table><p>{escape(ending)}</p>"

    def _cells(self, phase: str, names: Sequence[str]) -> list[str]:
        averages, best = self.averages[phase], self.best_losses.get(phase)
        values = [f"{averages[name]:.4g}" if name in averages else "" for name in names]
        return [*values, *(["", ""] if best is None else [f"{best.loss:.4g}", str(best.epoch)])]


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
        averages={phase.name: dict(phase.averages) for phase in run.phases},
        stop_reason=run.stop_reason or f"all {_everything(run)} are done",
    )


def _everything(run: Run) -> str:
    return f"{run.max_iterations} iterations" if run.has_done_all_iterations else f"{run.max_epochs} epochs"


def _row(kind: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"
