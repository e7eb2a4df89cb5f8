"""Records in TensorBoard event files."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchbase.hookspecs import hookimpl
from torchbase.run import Phase, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

MAXIMUM_SECONDS_UNTIL_ON_DISK = 5


class TensorBoard:
    """Writes ``events.out.tfevents.*`` into the run directory; look with ``tensorboard --logdir runs``.

    Scalars go past ``SummaryWriter.add_scalar``, which takes 56 µs, as ready-made events into its writer's thread.
    """

    name = "tensorboard"

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Opens an event file."""
        self._close()
        if run.run_directory is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run.run_directory.path), flush_secs=MAXIMUM_SECONDS_UNTIL_ON_DISK)

    @hookimpl
    def log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Records numbers."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        event = Event(summary=Summary(value=values))
        file_writer: Any = self._writer.file_writer
        file_writer.add_event(event, step, time.time())

    @hookimpl
    def log_hparams(self, hparams: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Records the hyper-parameters in the run's own event file, and the final values beside them."""
        if self._writer is None:
            return
        from torch.utils.tensorboard.summary import hparams as summarize

        file_writer: Any = self._writer.file_writer
        for summary in summarize(dict(hparams), dict(metrics)):  # type: ignore[no-untyped-call]
            file_writer.add_summary(summary)
        self.log_scalars(scalars=metrics, step=0)

    @hookimpl
    def log_text(self, tag: str, text: str, step: int) -> None:
        """Records a text."""
        if self._writer is not None:
            self._writer.add_text(tag, text, step)

    @hookimpl
    def log_image(self, tag: str, image: torch.Tensor | np.ndarray[Any, Any], step: int) -> None:
        """Records an image."""
        if self._writer is not None:
            self._writer.add_image(tag, image, step)

    @hookimpl
    def log_figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Records a figure."""
        if self._writer is not None:
            self._writer.add_figure(tag, figure, step)

    @hookimpl
    def log_histogram(self, tag: str, values: torch.Tensor | np.ndarray[Any, Any], step: int) -> None:
        """Records how values are distributed."""
        if self._writer is not None:
            self._writer.add_histogram(tag, values, step)

    @hookimpl
    def on_phase_end(self, phase: Phase) -> None:
        """Brings a validation's events to the disk."""
        if self._writer is not None and not phase.is_training:
            self._writer.flush()

    # Last, so that what other hooks record at the end is still taken.
    @hookimpl(trylast=True)
    def on_run_end(self) -> None:
        """Brings everything to the disk."""
        self._close()

    @hookimpl(trylast=True)
    def on_exception(self) -> None:
        """Brings everything to the disk."""
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
