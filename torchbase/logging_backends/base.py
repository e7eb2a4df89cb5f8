"""The base of logging backends: what is logged goes to one thread a backend, which writes it beside the training."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.logging_backends.recording import Recording
from torchbase.logging_backends.records import (
    ChartLayout,
    HyperParameters,
    Layout,
    Record,
    Scalars,
    Text,
    figure_record,
    histogram_record,
    image_record,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LoggingBackend(ABC):
    """A hook that keeps what is logged. A subclass says how to open, write a record, flush and close.

    These four are called in a thread of the backend's own, never two at once, so none of them needs a lock, and none
    holds up an iteration. Records are written in blocks, twice a second, and behind each block is a flush. At a
    checkpoint and at the end of the run the training waits until all is written.

    An error in one of the four is told in a warning, or ends the training, as ``on_logging_error`` says. Where the
    training goes on, the backend is closed, what is logged in the next minute is left out, and then it is opened again.
    A backend that gets on with nothing is waited for once, for as long as ``seconds_of_patience`` says.

    A backend that can't go back to an earlier point (a server) is told again of what came after the checkpoint from
    which a run goes on. What comes again is the same to the bit, so it may be left out. For one that can, see
    `torchbase.logging_backends.file_base.FileBackend`.

    Attributes:
        needs_run_directory: Whether it does nothing for a run without a run directory.
        seconds_of_patience: How long anything waits for the thread while that makes no progress.
        seconds_until_tried_again: How long what is logged is left out after an error.
    """

    needs_run_directory: bool = False
    seconds_of_patience: float = 30.0
    seconds_until_tried_again: float = 60.0

    _recording: Recording | None = None  # here, so that a subclass need not call a constructor

    @property
    def target(self) -> str:
        """What it writes, for messages, e.g. ``its table in runs/2026-11-22_14-03-55_host``."""
        return "what is logged"

    @property
    def is_recording(self) -> bool:
        """Whether a run is going on that it records."""
        return self._recording is not None

    def begin(self, run: Run) -> None:
        """Prepares for a run, once, while the start of the training waits; there may be nothing to do.

        Args:
            run: The run.
        """

    def open(self, run: Run) -> None:
        """Opens what records are written to: before the first record, and again after an error.

        Args:
            run: The run.
        """

    @abstractmethod
    def write(self, record: Record) -> None:
        """Writes a record, or passes over a kind that it doesn't keep.

        Args:
            record: The record; `torchbase.logging_backends.records` has their kinds.
        """

    def flush(self) -> None:
        """Lets a reader see what was written."""

    def close(self) -> None:
        """Closes what was opened, at the end of the run."""

    def abandon(self) -> None:
        """Closes what was opened after an error; the same as `close` where that is no different."""
        self.close()

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Begins the thread."""
        if self._recording is not None:  # left by a run that was ended while it ended
            self._recording.end()
            self._recording = None
        if run.run_directory is not None or not self.needs_run_directory:
            name = next((name for name, hook in run.hooks.items() if hook is self), type(self).__name__)
            self._recording = Recording(self, run, name)
            self._recording.raise_error()

    @hookimpl
    def on_iteration_end(self) -> None:
        """Raises what went wrong in the thread, where errors are to be raised."""
        if self._recording is not None:
            self._recording.raise_error()

    # Last, so that what other hooks record at the end is still taken.
    @hookimpl(trylast=True)
    def on_run_end(self) -> None:
        """Writes what is left, closes, and raises what went wrong, where errors are to be raised."""
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.end()
            recording.raise_error()

    @hookimpl(trylast=True)
    def on_exception(self, error: BaseException) -> None:
        """Writes what is left, and closes."""
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.end()
            recording.note_error(error)

    @hookimpl
    def log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Records numbers."""
        if self._recording is not None:
            self._recording.put(Scalars({tag: float(value) for tag, value in scalars.items()}, step, time.time()))

    @hookimpl
    def log_hparams(self, hparams: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Records the hyper-parameters and the final values."""
        self.hand_over(HyperParameters(dict(hparams), dict(metrics), time.time()))

    @hookimpl
    def log_text(self, tag: str, text: str, step: int) -> None:
        """Records a text."""
        self.hand_over(Text(tag, text, step, time.time()))

    @hookimpl
    def log_image(self, tag: str, image: torch.Tensor | np.ndarray[Any, Any], step: int) -> None:
        """Records an image."""
        if self.is_recording:
            self.hand_over(image_record(tag, image, step, time.time()))

    @hookimpl
    def log_figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Records a figure, as an image."""
        if self.is_recording:
            self.hand_over(figure_record(tag, figure, step, time.time()))

    @hookimpl
    def log_histogram(self, tag: str, values: torch.Tensor | np.ndarray[Any, Any], step: int) -> None:
        """Records how values are distributed."""
        if self.is_recording:
            self.hand_over(histogram_record(tag, values, step, time.time()))

    @hookimpl
    def log_layout(self, layout: Layout) -> None:
        """Records which curves are to be shown together."""
        copied = {category: {chart: [*tags] for chart, tags in charts.items()} for category, charts in layout.items()}
        self.hand_over(ChartLayout(copied, time.time()))

    def state_dict(self) -> dict[str, Any]:
        """Waits until everything that was logged is written, so that no checkpoint is ahead of it.

        Returns:
            An empty dictionary; a backend that has a state extends it.
        """
        if self._recording is not None:
            self._recording.wait()
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave, before the run starts.

        Args:
            state: The state.
        """

    def hand_over(self, record: Record) -> None:
        """Gives a record to the thread; where there is none, nothing happens.

        Args:
            record: The record; nothing in it is changed any more.
        """
        if self._recording is not None:
            self._recording.put(record)

    def do_in_thread(self, action: Callable[[], object]) -> None:
        """Lets the thread do something between the records before and those behind it, where there is a thread.

        Args:
            action: What to do. An error in it is one of the backend.
        """
        if self._recording is not None:
            self._recording.do(action)
