"""The hooks that the checks register beside the hook that is checked: what ends a run, and what looks at it."""

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
    """Stops a run behind an iteration of a phase."""

    name = "stop_at (of the checks)"

    def __init__(self, iteration: int, phase: str = "training") -> None:
        """Sets where.

        Args:
            iteration: The iteration of the phase, counted over the whole run; the first is 1.
            phase: The name of the phase: ``training``, or ``validation-NAME``.
        """
        self.iteration, self.phase = iteration, phase

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Asks the run to stop where it is to."""
        if phase.name == self.phase and phase.progress.iterations == self.iteration:
            run.request_stop("for the test")


class KillAt(StopAt):
    """Kills the process there, by a signal that nothing can catch."""

    # Last: every hook was told of the iteration, and a checkpoint that is due there isn't written.
    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Kills the process where it is to."""
        if phase.name == self.phase and phase.progress.iterations == self.iteration:
            kill_this_process()


class Killed(BaseException):
    """Ends a run in place of a kill, where it can't be given a process of its own."""


class CopyAt(StopAt):
    """Copies the run directory there, as a kill would leave it, and ends the run."""

    def __init__(self, iteration: int, phase: str, folder: Path) -> None:
        """Sets where, and where to.

        Args:
            iteration: The iteration of the phase, counted over the whole run.
            phase: The name of the phase.
            folder: What the copy is put into, under the name of the run directory.
        """
        super().__init__(iteration, phase)
        self.folder = folder

    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Copies what there is, where it is to."""
        if phase.name == self.phase and phase.progress.iterations == self.iteration and run.run_directory is not None:
            run.run_directory.writes.wait()  # a folder that is being written can't be copied
            shutil.copytree(run.run_directory.path, self.folder / run.run_directory.path.name)
            raise Killed


class Tally:
    """Writes down each thing that the hooks were told, in a file that outlives a kill."""

    name = "tally (of the checks)"

    def __init__(self, file: TextIO) -> None:
        """Takes the file.

        Args:
            file: Open for appending, buffered by lines at most.
        """
        self._file = file

    def _note(self, event: str, phase: str, number: int, epoch: int) -> None:
        self._file.write(f"{event}\t{phase}\t{number}\t{epoch}\n")

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Notes an iteration."""
        self._note("on_iteration_end", phase.name, phase.progress.iterations, run.epoch)

    @hookimpl
    def on_values_read(self, run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Notes the iterations whose values came."""
        for row in rows:
            self._note("on_values_read", phase.name, row.iteration, run.epoch)

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Notes the end of a phase."""
        self._note("on_phase_end", phase.name, phase.progress.iterations, run.epoch)

    @hookimpl
    def on_best_epoch(self, run: Run) -> None:
        """Notes the best epoch so far."""
        self._note("on_best_epoch", "-", run.epoch, run.epoch)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Notes the end of an epoch."""
        self._note("on_epoch_end", "-", run.epochs_done, run.epoch)


class Witness:
    """Keeps what the hook that is checked holds: when the run has begun, and when it is over."""

    name = "witness (of the checks)"

    def __init__(self, hook: object) -> None:
        """Takes the hook.

        Args:
            hook: The hook that is checked.
        """
        self._hook = hook
        self.state_at_start: dict[str, Any] | None = None
        self.state_at_end: dict[str, Any] | None = None
        self.attributes_at_end: dict[str, Any] = {}

    # Last, so that the hook has made of the run what it makes of it; listed behind Rehearsal, so before that.
    @hookimpl(trylast=True)
    def on_run_start(self) -> None:
        """Keeps the state, which a checkpoint may have given."""
        self.state_at_start = state_of(self._hook)

    # First, as the last checkpoint is written then.
    @hookimpl(tryfirst=True)
    def on_run_end(self) -> None:
        """Keeps the state, and the attributes."""
        self.state_at_end = state_of(self._hook)
        self.attributes_at_end = plain_attributes(self._hook)


class Clock:
    """Takes the time of the training iterations, from the end of the first one to that of the last one of a phase."""

    name = "clock (of the checks)"

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last: float | None = None

    @property
    def microseconds(self) -> float:
        """How long an iteration took: the fastest tenth of them, which other programs disturbed least."""
        size = max(1, len(self.seconds) // 10)
        tenths = [self.seconds[first : first + size] for first in range(0, len(self.seconds), size)]
        return 1e6 * min(statistics.fmean(one) for one in tenths)

    @hookimpl
    def on_phase_start(self) -> None:
        """Forgets the time between two phases."""
        self._last = None

    @hookimpl(trylast=True)
    def on_iteration_end(self, phase: Phase) -> None:
        """Adds the time since the iteration before."""
        if phase.is_training:
            now = time.perf_counter()
            if self._last is not None:
                self.seconds.append(now - self._last)
            self._last = now


def state_of(hook: object) -> dict[str, Any] | None:
    """Copies the state of a hook.

    Args:
        hook: Any hook.

    Returns:
        What its ``state_dict`` gives; None if it isn't kept in checkpoints.

    Raises:
        HookCheckError: If it raises, or that isn't a dictionary.
    """
    if not isinstance(hook, Stateful):
        return None
    try:
        given = hook.state_dict()
    except Exception as error:
        raise HookCheckError(
            f"state_dict() raised {type(error).__name__}: {error}. To fix, let it give a state from on_run_start on: a "
            "run that is ended there writes a checkpoint, too."
        ) from error
    if not isinstance(given, Mapping):
        raise HookCheckError(
            f"state_dict() gave {type(given).__name__}, and has to give a dictionary. To fix, return one, with a name "
            "for each value."
        )
    state: dict[str, Any] = HostCopies().of(dict(given))
    return state


def names_not_kept(hook: object) -> list[str]:
    """Finds what a checkpoint can't keep of a hook's state.

    Args:
        hook: Any hook.

    Returns:
        Names in its state.
    """
    return [name for name, value in (state_of(hook) or {}).items() if not _can_be_kept(value)]


def _can_be_kept(value: Any) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # what can't be pickled, or is refused when it is read, may raise anything
        return False
    return True


def plain_attributes(hook: object) -> dict[str, Any]:
    """Copies those attributes of a hook that could be kept in a checkpoint: tensors and plain values.

    Args:
        hook: Any hook.
    """
    plain = {name: one for name, one in getattr(hook, "__dict__", {}).items() if _is_plain(one)}
    attributes: dict[str, Any] = HostCopies().of(plain)
    return attributes


def _is_plain(value: Any, levels: int = 6) -> bool:
    if value is None or isinstance(value, bool | int | float | str | bytes | torch.Tensor):
        return True
    if isinstance(value, Mapping):
        return levels > 0 and all(_is_plain(one, levels - 1) for one in (*value, *value.values()))
    return levels > 0 and isinstance(value, list | tuple | set) and all(_is_plain(one, levels - 1) for one in value)
