"""The hooks that the checks register in addition to the checked hook: to interrupt a run, and to observe it."""

import io
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from torchbase.checkpoints.run_state import Stateful
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import HookCheckError
from torchbase.files.host_copies import HostCopies
from torchbase.testing.other_process import kill_this_process


class StopAt:
    """Stops a run after an iteration of a phase."""

    name = "stop_at (of the checks)"

    def __init__(self, iteration: int, phase: str = "training") -> None:
        """Sets the iteration.

        Args:
            iteration: The iteration of the phase, counted over the whole run; the first is 1.
            phase: The name of the phase: ``training``, or ``validation-NAME``.
        """
        self.iteration, self.phase = iteration, phase

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Requests the stop at that iteration."""
        if phase.name == self.phase and phase.progress.iterations == self.iteration:
            run.request_stop("for the test")


class KillAt(StopAt):
    """Kills the process after an iteration, by a signal that can't be caught."""

    # Last: every hook has been called for the iteration, and a checkpoint that is due after it isn't written.
    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Kills the process at that iteration."""
        if phase.name == self.phase and phase.progress.iterations == self.iteration:
            kill_this_process()


class Killed(BaseException):
    """Ends a run instead of a kill, if the run can't have its own process."""


class CopyAt(StopAt):
    """Copies the run directory after an iteration, as a kill would leave it, and ends the run."""

    def __init__(self, iteration: int, phase: str, folder: Path) -> None:
        """Sets the iteration and the target.

        Args:
            iteration: The iteration of the phase, counted over the whole run.
            phase: The name of the phase.
            folder: The folder for the copy, which has the name of the run directory.
        """
        super().__init__(iteration, phase)
        self.folder = folder

    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Copies the run directory at that iteration."""
        if phase.name == self.phase and phase.progress.iterations == self.iteration and run.run_directory is not None:
            run.run_directory.writes.wait()  # a folder that is being written can't be copied
            shutil.copytree(run.run_directory.path, self.folder / run.run_directory.path.name)
            raise Killed


class EventLog:
    """Writes each event to a file, which survives a kill."""

    name = "event_log (of the checks)"

    def __init__(self, file: TextIO) -> None:
        """Sets the file.

        Args:
            file: A file opened for appending, at most line-buffered.
        """
        self._file = file

    def _write(self, event: str, phase: str, number: int, epoch: int) -> None:
        self._file.write(f"{event}\t{phase}\t{number}\t{epoch}\n")

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Writes an iteration."""
        self._write("on_iteration_end", phase.name, phase.progress.iterations, run.epoch)

    @hookimpl
    def on_values_read(self, run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Writes the iterations whose values were read."""
        for row in rows:
            self._write("on_values_read", phase.name, row.iteration, run.epoch)

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Writes the end of a phase."""
        self._write("on_phase_end", phase.name, phase.progress.iterations, run.epoch)

    @hookimpl
    def on_best_epoch(self, run: Run) -> None:
        """Writes a new best epoch."""
        self._write("on_best_epoch", "-", run.epoch, run.epoch)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Writes the end of an epoch."""
        self._write("on_epoch_end", "-", run.epochs_done, run.epoch)


class StateRecorder:
    """Records the state of the checked hook at the start and the end of a run."""

    name = "state_recorder (of the checks)"

    def __init__(self, hook: object) -> None:
        """Sets the hook.

        Args:
            hook: The checked hook.
        """
        self._hook = hook
        self.state_at_start: dict[str, Any] | None = None
        self.state_at_end: dict[str, Any] | None = None
        self.attributes_at_end: dict[str, Any] = {}

    # Last, after the hook's own on_run_start; it is listed after Rehearsal, so it is called before that.
    @hookimpl(trylast=True)
    def on_run_start(self) -> None:
        """Records the state, which a checkpoint may have restored."""
        self.state_at_start = copy_state(self._hook)

    # First, since the last checkpoint is written then.
    @hookimpl(tryfirst=True)
    def on_run_end(self) -> None:
        """Records the state and the attributes."""
        self.state_at_end = copy_state(self._hook)
        self.attributes_at_end = copy_plain_attributes(self._hook)


class Clock:
    """Measures the time between the ends of consecutive training iterations of a phase."""

    name = "clock (of the checks)"

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last: float | None = None

    @property
    def microseconds(self) -> float:
        """The time per iteration: the mean of the fastest tenth, which other programs disturbed least."""
        size = max(1, len(self.seconds) // 10)
        tenths = [self.seconds[first : first + size] for first in range(0, len(self.seconds), size)]
        return 1e6 * min(statistics.fmean(tenth) for tenth in tenths)

    @hookimpl
    def on_phase_start(self) -> None:
        """Excludes the time between two phases."""
        self._last = None

    @hookimpl(trylast=True)
    def on_iteration_end(self, phase: Phase) -> None:
        """Adds the time since the previous iteration."""
        if phase.is_training:
            now = time.perf_counter()
            if self._last is not None:
                self.seconds.append(now - self._last)
            self._last = now


def copy_state(hook: object) -> dict[str, Any] | None:
    """Copies the state of a hook.

    Args:
        hook: Any hook.

    Returns:
        What its ``state_dict`` returns, or None if checkpoints don't save a state of it.

    Raises:
        HookCheckError: If ``state_dict`` raises an error or doesn't return a dictionary.
    """
    if not isinstance(hook, Stateful):
        return None
    try:
        returned = hook.state_dict()
    except Exception as error:
        raise HookCheckError(
            f"state_dict() raised {type(error).__name__}: {error}. To fix, let it return a state from on_run_start on: "
            "a run that ends there writes a checkpoint, too."
        ) from error
    if not isinstance(returned, Mapping):
        raise HookCheckError(
            f"state_dict() returned {type(returned).__name__}, but a dictionary is expected. To fix, return a "
            "dictionary with a name for each value."
        )
    state: dict[str, Any] = HostCopies().of(dict(returned))
    return state


def find_unsavable(hook: object) -> list[str]:
    """Finds the values of a hook's state that a checkpoint can't save.

    Args:
        hook: Any hook.

    Returns:
        Names in its state.
    """
    return [name for name, value in (copy_state(hook) or {}).items() if not _can_be_saved(value)]


def _can_be_saved(value: Any) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # pickling and loading may raise anything
        return False
    return True


def copy_plain_attributes(hook: object) -> dict[str, Any]:
    """Copies the attributes of a hook that a checkpoint could save: tensors and plain values.

    Args:
        hook: Any hook.
    """
    plain = {name: value for name, value in getattr(hook, "__dict__", {}).items() if _is_plain(value)}
    attributes: dict[str, Any] = HostCopies().of(plain)
    return attributes


def _is_plain(value: Any, levels: int = 6) -> bool:
    if value is None or isinstance(value, bool | int | float | str | bytes | torch.Tensor):
        return True
    if isinstance(value, Mapping):
        return levels > 0 and all(_is_plain(item, levels - 1) for item in (*value, *value.values()))
    return levels > 0 and isinstance(value, list | tuple | set) and all(_is_plain(item, levels - 1) for item in value)
