"""Records as TensorBoard event files."""

import io
import logging
import re
import tempfile
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.logging_backends.event_file import PATTERN, EventFile
from torchbase.logging_backends.file_base import FileBackend
from torchbase.logging_backends.records import (
    ChartLayout,
    Graph,
    Histogram,
    HyperParameters,
    Image,
    Layout,
    Record,
    Scalars,
    Text,
)
from torchbase.optional_packages import load

logger = logging.getLogger("torchbase")


class TensorBoard(FileBackend[EventFile]):
    """Writes ``events.out.tfevents.*`` into the run directory; view it with ``tensorboard --logdir runs``.

    A run that resumes from a checkpoint removes what was recorded after it, so each step is recorded once. TensorBoard
    offers ``purge_step`` for this, but it compares the steps of all curves with one number, and here some steps count
    iterations and others epochs.
    """

    name = "tensorboard"
    pattern = PATTERN

    @property
    def target(self) -> str:
        """What the backend writes, for messages."""
        return f"its event file in {self.folder}"

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Imports TensorBoard before the thread starts; the thread removes what will be recorded again."""
        if run.run_directory is not None:
            load("tensorboard", "torch.utils.tensorboard.summary", install="tensorboard")
        super().on_run_start(run)

    @hookimpl
    def log_graph(self, network: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        """Records the graph of the network's operations. Warns if the network can't be traced."""
        if self.is_recording:
            try:
                content = _trace_graph(network, inputs)
            except Exception as error:  # tracing may raise anything
                logger.warning(
                    "The graph of the network can't be recorded; training continues: %s: %s",
                    type(error).__name__,
                    error,
                )
            else:
                self.hand_over(Graph(content, time.time()))

    def open_file(self, folder: Path) -> EventFile:
        """Creates a new event file; see `FileBackend.open_file`."""
        return EventFile(folder)

    def append(self, file: EventFile, record: Record) -> None:
        """Appends an event, or several for hyper-parameters; see `FileBackend.append`."""
        if isinstance(record, Scalars):
            file.add_scalars(record.values, record.step, record.time)
            return
        if isinstance(record, Graph):
            file.add_event(wall_time=record.time, graph_def=record.content)
            return
        step = record.step if isinstance(record, Text | Image | Histogram) else 0
        for summary in _summaries_of(record):
            file.add_event(wall_time=record.time, step=step, summary=summary)


def _trace_graph(network: torch.nn.Module, inputs: tuple[Any, ...]) -> bytes:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from torch.utils.tensorboard import SummaryWriter

    # Torch's writer can only write the graph into a file, and it prints when tracing fails.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with SummaryWriter(folder) as writer:
            writer.add_graph(network, inputs, use_strict_trace=False)
        (file,) = Path(folder).iterdir()
        contents = [event.graph_def for event in EventFileLoader(str(file)).Load() if event.graph_def]
    return bytes(contents[0])


def _summaries_of(record: Record) -> list[Any]:
    from torch.utils.tensorboard import summary

    match record:
        case HyperParameters(values, metrics):  # in the run's own file, so that the run is one entry
            return list(summary.hparams(dict(values), dict(metrics)))  # type: ignore[no-untyped-call]
        case Text(tag, text):
            return [summary.text(tag, text)]  # type: ignore[no-untyped-call]
        case Image(tag, pixels):
            return [summary.image(tag, pixels, dataformats="HWC")]  # type: ignore[no-untyped-call]
        case Histogram(tag, values):
            counts, edges = record.binned()
            values = values.astype(np.float64)  # squares of smaller floats may be infinite
            numbers = values.min(), values.max(), values.size, values.sum(), (values * values).sum()
            return [summary.histogram_raw(tag, *numbers, edges[1:], counts)]  # type: ignore[no-untyped-call]
        case ChartLayout(layout):
            return [summary.custom_scalars(_torch_layout(layout))]  # type: ignore[no-untyped-call]
    return []


def _torch_layout(layout: Layout) -> dict[str, dict[str, list[Any]]]:
    # TensorBoard reads a tag as a regular expression, and also accepts names that only begin with it.
    return {
        category: {chart: ["Multiline", [f"{re.escape(tag)}$" for tag in tags]] for chart, tags in charts.items()}
        for category, charts in layout.items()
    }
