"""Records in TensorBoard event files."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchbase.event_file import EventFile, cut_back, file_sizes
from torchbase.hookspecs import hookimpl
from torchbase.run import Phase, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger("torchbase")

SECONDS_UNTIL_TRIED_AGAIN = 60.0


class TensorBoard:
    """Writes ``events.out.tfevents.*`` into the run directory; look with ``tensorboard --logdir runs``.

    An error of the disk doesn't end the training: a warning tells of it, and a minute later a new file is tried.

    A run that goes on from a checkpoint takes away what was recorded after it, so each step is there once.
    TensorBoard's own way (``purge_step``) can't be taken: it compares the steps of all curves with one, and here some
    count iterations and others epochs.
    """

    name = "tensorboard"

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._file: EventFile | None = None
        self._kept_sizes: dict[str, int] | None = None
        self._sizes_before_validation: dict[str, int] | None = None
        self._has_failed_at: float | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Takes away what is to be recorded again; the file is made when there is something to record."""
        self._close()
        self._folder = run.run_directory.path if run.run_directory is not None else None
        self._sizes_before_validation = self._has_failed_at = None
        sizes, self._kept_sizes = self._kept_sizes, None
        if sizes is None and run.progress.iterations == 0:  # a run that was killed before its first checkpoint
            sizes = {}
        if self._folder is not None and sizes is not None:
            with self._disk_errors_told():
                cut_back(self._folder, sizes)

    @hookimpl
    def on_phase_start(self, phase: Phase) -> None:
        """Notes how long the event files are before a validation."""
        if not phase.is_training:
            self._sizes_before_validation = self._sizes()

    def state_dict(self) -> dict[str, Any]:
        """Gives how long the event files are, without those events of a validation that is to begin again."""
        sizes = self._sizes_before_validation
        return {"sizes": sizes if sizes is not None else self._sizes()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what the event files are cut back to when the run starts.

        Args:
            state: What `state_dict` gave.
        """
        self._kept_sizes = dict(state["sizes"])

    @hookimpl
    def log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Records numbers."""
        try:  # not the context manager: this is told in every iteration
            file = self._file or self._open()
            if file is not None:
                file.add_scalars(scalars, step)
        except OSError as error:
            self._fail(error)

    @hookimpl
    def log_hparams(self, hparams: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Records the hyper-parameters in the run's own event file, and the final values beside them."""
        from torch.utils.tensorboard.summary import hparams as summarize

        for summary in summarize(dict(hparams), dict(metrics)):  # type: ignore[no-untyped-call]
            self._add(summary, step=0)

    @hookimpl
    def log_text(self, tag: str, text: str, step: int) -> None:
        """Records a text."""
        from torch.utils.tensorboard import summary

        self._add(summary.text(tag, text), step)  # type: ignore[no-untyped-call]

    @hookimpl
    def log_image(self, tag: str, image: torch.Tensor | np.ndarray[Any, Any], step: int) -> None:
        """Records an image."""
        from torch.utils.tensorboard import summary

        self._add(summary.image(tag, image, dataformats="CHW"), step)  # type: ignore[no-untyped-call]

    @hookimpl
    def log_figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Records a figure, as an image."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from torch.utils.tensorboard import summary

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        image = np.asarray(canvas.buffer_rgba())[..., :3]
        self._add(summary.image(tag, image, dataformats="HWC"), step)  # type: ignore[no-untyped-call]

    @hookimpl
    def log_histogram(self, tag: str, values: torch.Tensor | np.ndarray[Any, Any], step: int) -> None:
        """Records how values are distributed."""
        from torch.utils.tensorboard import summary

        self._add(summary.histogram(tag, values, bins="auto"), step)  # type: ignore[no-untyped-call]

    @hookimpl
    def on_phase_end(self, phase: Phase) -> None:
        """Lets a reader see a validation's events."""
        self._sizes_before_validation = None
        if not phase.is_training:
            self._flush()

    # Last, so that what other hooks record at the end is still taken.
    @hookimpl(trylast=True)
    def on_run_end(self) -> None:
        """Closes the file."""
        self._close()

    @hookimpl(trylast=True)
    def on_exception(self) -> None:
        """Closes the file."""
        self._close()

    def _add(self, summary: Any, step: int) -> None:
        with self._disk_errors_told():
            file = self._file or self._open()
            if file is not None:
                file.add_summary(summary, step)

    def _open(self) -> EventFile | None:
        failed_at = self._has_failed_at
        is_quiet = failed_at is not None and time.monotonic() - failed_at < SECONDS_UNTIL_TRIED_AGAIN
        if self._folder is not None and not is_quiet:
            self._file = EventFile(self._folder)
        return self._file

    def _flush(self) -> None:
        with self._disk_errors_told():
            if self._file is not None:
                self._file.flush()

    def _sizes(self) -> dict[str, int]:
        self._flush()
        return file_sizes(self._folder) if self._folder is not None else {}

    def _close(self) -> None:
        with self._disk_errors_told():
            if self._file is not None:
                self._file.close()
                self._file = None

    @contextmanager
    def _disk_errors_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._has_failed_at = time.monotonic()
        logger.warning(
            "tensorboard can't write its event file in %s, so some values will be missing there; training goes on: %s",
            self._folder,
            error,
        )
        if self._file is not None:
            self._file.abandon()
            self._file = None
