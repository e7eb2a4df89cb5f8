"""Records for Weights & Biases: https://docs.wandb.ai."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.logging_backends.base import LoggingBackend
from torchbase.logging_backends.records import Histogram, HyperParameters, Image, Record, Scalars, Text
from torchbase.logging_backends.wandb_file import WandbFile
from torchbase.optional_packages import check_installed, load

UNITS = ("iterations", "epochs")
FLUSH_SETTING = "x_transaction_log_flush_interval"
SECONDS_BETWEEN_FLUSHES = 0.1
SECONDS_FOR_A_FLUSH = 3.0


class Wandb(LoggingBackend):
    """Records a run in Weights & Biases: numbers, hyper-parameters, texts, images, figures and histograms.

    Needs ``pip install 'torchbase[wandb]'``. W&B's files are in the run directory, under ``wandb``. With
    ``mode="offline"`` they stay there until ``wandb sync`` uploads them. The name of the run directory is the ID of
    W&B's run, so a resumed run continues W&B's run. It skips the values that W&B's files already contain.

    - W&B has one step for all curves. Here each curve has its own step, ``steps/iterations`` or ``steps/epochs`` (else
      ``steps/other``), which is its horizontal axis.
    - Charts are ignored: W&B's charts are made in its workspace.
    """

    name = "wandb"

    def __init__(self, project: str = "torchbase", mode: Literal["online", "offline"] | None = None) -> None:
        """Sets the project and the mode.

        Args:
            project: The name of W&B's project.
            mode: ``"offline"`` only writes files; by default W&B's own setting (``WANDB_MODE``), or online.

        Raises:
            HookError: If W&B isn't installed.
        """
        check_installed("wandb", "The hook Wandb")
        self._project, self._mode = project, mode
        self._run: Any = None
        self._file: WandbFile | None = None
        self._next_row = self._rows_in_file = 0
        self._exit_code = 0
        self._is_flushed_often = False
        self._steps: dict[str, set[int]] = {}
        self._axes: set[str] = set()

    @property
    def target(self) -> str:
        """What the backend writes, for messages."""
        return f"to the project '{self._project}' of W&B"

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Imports W&B before the thread starts."""
        load("wandb")
        self._exit_code = 0
        super().on_run_start(run)

    @hookimpl(trylast=True)
    def on_exception(self, error: BaseException) -> None:
        """Writes the remaining records, and marks the run as failed."""
        self._exit_code = 1
        super().on_exception(error)

    def state_dict(self) -> dict[str, Any]:
        """Waits until all records are in W&B's file; see `LoggingBackend.state_dict`."""
        if self._is_flushed_often:
            self.do_in_thread(lambda: self._wait_for_file(lambda file: self._rows_in_file == self._next_row))
        return super().state_dict()

    def open(self, run: Run) -> None:
        """Starts or resumes W&B's run; see `LoggingBackend.open`."""
        wandb = load("wandb")
        directory = run.run_directory
        self._read_existing_rows(directory.path if directory is not None else None)
        self._is_flushed_often = FLUSH_SETTING in wandb.Settings.model_fields
        flushing = {FLUSH_SETTING: SECONDS_BETWEEN_FLUSHES} if self._is_flushed_often else {}
        self._run = wandb.init(
            project=self._project,
            mode=self._mode,
            id=directory.tag if directory is not None else None,
            name=directory.tag if directory is not None else None,
            dir=str(directory.path) if directory is not None else None,
            resume="allow" if directory is not None else None,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", **flushing),
        )
        self._axes.clear()
        self._next_row = self._rows_in_file = max(self._next_row, self._run.step)
        self._file = WandbFile(Path(self._run.settings.sync_file))

    def write(self, record: Record) -> None:
        """Logs a record; see `LoggingBackend.write`."""
        wandb = load("wandb")
        match record:
            case Scalars(values, step):
                by_unit: defaultdict[str, dict[str, float]] = defaultdict(dict)
                for tag, value in values.items():
                    by_unit[_unit_of(tag)][tag] = value
                for values_of_unit in by_unit.values():
                    self._log(values_of_unit, step)
            case Text(tag, text, step):
                self._log({tag: text}, step)
            case Image(tag, pixels, step):
                self._log({tag: wandb.Image(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)}, step)
            case Histogram(tag, _, step):
                self._log({tag: wandb.Histogram(np_histogram=record.binned())}, step)
            case HyperParameters(values, metrics):
                self._run.config.update(dict(values), allow_val_change=True)
                self._run.summary.update(dict(metrics))

    def close(self) -> None:
        """Ends W&B's run, and waits until its file has the end: W&B's own process may still be writing."""
        self._run.finish(exit_code=self._exit_code)
        self._wait_for_file(lambda file: file.has_ended)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        new = {tag: value for tag, value in values.items() if step not in self._steps.get(tag, ())}
        for tag in new:
            self._define_axis(tag)
        if new:
            axis = f"steps/{_unit_of(next(iter(new)))}"
            self._run.log({**new, axis: step}, step=self._next_row, commit=True)
            self._next_row += 1

    def _define_axis(self, tag: str) -> None:
        if tag not in self._axes:
            axis = f"steps/{_unit_of(tag)}"
            if axis not in self._axes:
                self._run.define_metric(axis, hidden=True)
            self._run.define_metric(tag, step_metric=axis)
            self._axes |= {tag, axis}

    def _read_existing_rows(self, folder: Path | None) -> None:
        self._next_row = 0
        self._steps.clear()
        for path in sorted(folder.glob(f"wandb/*run-*/run-{folder.name}.wandb")) if folder is not None else ():
            for row in WandbFile(path).new_rows():
                self._next_row = max(self._next_row, int(row["_step"]) + 1)
                for tag in row:
                    if (step := row.get(f"steps/{_unit_of(tag)}")) is not None:
                        self._steps.setdefault(tag, set()).add(int(step))

    def _wait_for_file(self, is_enough: Callable[[WandbFile], bool]) -> None:
        deadline = time.monotonic() + SECONDS_FOR_A_FLUSH
        while self._file is not None and not is_enough(self._file) and time.monotonic() < deadline:
            for row in self._file.new_rows():
                self._rows_in_file = int(row["_step"]) + 1
            time.sleep(SECONDS_BETWEEN_FLUSHES / 4)


def _unit_of(tag: str) -> str:
    unit = tag.rpartition("/")[2]
    return unit if unit in UNITS else "other"
