"""The base class of logging backends: each backend has one thread, which writes the records beside the training."""

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
    """A hook that records what is logged. A subclass implements how to open, write a record, flush and close.

    These four methods are called in the backend's own thread, never two at the same time. They need no lock and don't
    slow down an iteration. Records are written in blocks, twice a second, and each block is followed by a flush. At a
    checkpoint and at the end of the run, the training waits until all records are written.

    An error in one of the four is logged as a warning or ends the training, depending on ``on_logging_error``. If the
    training continues, the backend is closed. Records of the next minute are dropped, then the backend is opened again.
    If the backend makes no progress, the training waits for it once, for ``seconds_of_patience``.

    A backend that can't return to an earlier point (a server) receives the records after a checkpoint again when a run
    resumes from it. They are identical to the bit, so the backend may skip them. A backend that can return to an
    earlier point extends `torchbase.logging_backends.file_base.FileBackend`.

    Attributes:
        main_process_only: True, since one process writes for all.
        needs_run_directory: Whether the backend does nothing in a run without a run directory.
        seconds_of_patience: How long to wait for the thread while it makes no progress.
        seconds_until_tried_again: For how long records are dropped after an error.
    """

    main_process_only = True
    needs_run_directory: bool = False
    seconds_of_patience: float = 30.0
    seconds_until_tried_again: float = 60.0

    _recording: Recording | None = None  # here, so that a subclass need not call a constructor

    @property
    def target(self) -> str:
        """What the backend writes, for messages, e.g. ``its table in runs/2026-11-22_14-03-55_host``."""
        return "what is logged"

    @property
    def is_recording(self) -> bool:
        """Whether the backend is recording a run."""
        return self._recording is not None

    def begin(self, run: Run) -> None:
        """Prepares for a run, once, while the start of the training waits. Does nothing by default.

        Args:
            run: The run.
        """

    def open(self, run: Run) -> None:
        """Opens the target of the records: before the first record, and again after an error.

        Args:
            run: The run.
        """

    @abstractmethod
    def write(self, record: Record) -> None:
        """Writes a record, or ignores a kind of record that it doesn't support.

        Args:
            record: The record; `torchbase.logging_backends.records` lists the kinds.
        """

    def flush(self) -> None:
        """Makes the written records visible to readers."""

    def close(self) -> None:
        """Closes the target at the end of the run."""

    def abandon(self) -> None:
        """Closes the target after an error. Calls `close` by default."""
        self.close()

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Starts the thread."""
        if self._recording is not None:  # left over from a run that was interrupted while it ended
            self._recording.end()
            self._recording = None
        if run.run_directory is not None or not self.needs_run_directory:
            name = next((name for name, hook in run.hooks.items() if hook is self), type(self).__name__)
            self._recording = Recording(self, run, name)
            self._recording.raise_error()

    @hookimpl
    def on_iteration_end(self) -> None:
        """Raises an error of the thread, if errors end the training."""
        if self._recording is not None:
            self._recording.raise_error()

    # Last, so that it also receives what other hooks record at the end.
    @hookimpl(trylast=True)
    def on_run_end(self) -> None:
        """Writes the remaining records, closes, and raises an error of the thread, if errors end the training."""
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.end()
            recording.raise_error()

    @hookimpl(trylast=True)
    def on_exception(self, error: BaseException) -> None:
        """Writes the remaining records and closes."""
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
        """Records the hyper-parameters and the final metrics."""
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
        """Records the distribution of values."""
        if self.is_recording:
            self.hand_over(histogram_record(tag, values, step, time.time()))

    @hookimpl
    def log_layout(self, layout: Layout) -> None:
        """Records which curves are shown together."""
        copied = {category: {chart: [*tags] for chart, tags in charts.items()} for category, charts in layout.items()}
        self.hand_over(ChartLayout(copied, time.time()))

    def state_dict(self) -> dict[str, Any]:
        """Waits until all records are written, so that no checkpoint is ahead of them.

        Returns:
            An empty dictionary; a backend with a state extends it.
        """
        if self._recording is not None:
            self._recording.wait()
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a state before the run starts.

        Args:
            state: What `state_dict` returned.
        """

    def hand_over(self, record: Record) -> None:
        """Passes a record to the thread. Does nothing if there is no thread.

        Args:
            record: The record; the caller must not change it afterwards.
        """
        if self._recording is not None:
            self._recording.put(record)

    def do_in_thread(self, action: Callable[[], object]) -> None:
        """Calls an action in the thread, after all earlier records. Does nothing if there is no thread.

        Args:
            action: The action. An error in it counts as an error of the backend.
        """
        if self._recording is not None:
            self._recording.do(action)
