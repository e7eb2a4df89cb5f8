"""Says what is unusual in the data of a mini-batch, if an iteration fails."""

from torchbase.data.faults import ExplainingLoader
from torchbase.engine.events import NOTE
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.errors import TorchbaseError


class DataFaults:
    """Adds what is unusual in the data of a mini-batch to the error of an iteration, as notes.

    The notes name the column and the rows in the dataset: None, lists of several lengths, labels that are out of range.
    Nothing is inspected unless an iteration fails; then its mini-batch is read again.
    """

    @hookimpl
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Inspects the mini-batch of the iteration that failed."""
        phase = run.current_phase
        if phase is None or not isinstance(error, Exception) or isinstance(error, TorchbaseError):
            return
        notes = getattr(error, "__notes__", [])
        # The iteration is counted before `on_iteration_end`, where the metrics are computed.
        is_counted = any(note.startswith(NOTE) and note.endswith("at on_iteration_end") for note in notes)
        was_read = not any(note.startswith("while reading mini-batch") for note in notes)
        if was_read and isinstance(phase.loader, ExplainingLoader):
            phase.loader.explain(error, run.epoch, phase.progress.mini_batches - is_counted)
