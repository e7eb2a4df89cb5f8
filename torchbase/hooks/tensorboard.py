"""Records in TensorBoard event files."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchbase.event_file import EventFile
from torchbase.hookspecs import hookimpl
from torchbase.run import Phase, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class TensorBoard:
    """Writes ``events.out.tfevents.*`` into the run directory; look with ``tensorboard --logdir runs``."""

    name = "tensorboard"

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._file: EventFile | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Finds the folder; the file is made when there is something to record."""
        self._close()
        self._folder = run.run_directory.path if run.run_directory is not None else None

    @hookimpl
    def log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Records numbers."""
        file = self._file or self._open()
        if file is not None:
            file.add_scalars(scalars, step)

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
        if self._file is not None and not phase.is_training:
            self._file.flush()

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
        file = self._file or self._open()
        if file is not None:
            file.add_summary(summary, step)

    def _open(self) -> EventFile | None:
        if self._folder is not None:
            self._file = EventFile(self._folder)
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
