"""The runs of a hook on several processes, and those on one process with which they are compared."""

import faulthandler
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from torchbase.errors import ProcessError
from torchbase.testing.checked_processes import DifferentPlacesError, Place, with_checked_processes
from torchbase.testing.forked import Ended, forked, wait_for
from torchbase.testing.hook_frames import HookFrames
from torchbase.testing.instruments import StateRecorder
from torchbase.testing.outcomes import Outcome, collect_in_memory, collect_on_disk
from torchbase.testing.tiny_session import NoisySession
from torchbase.testing.traces import ProcessTrace, Trace
from torchbase.testing.trial import HookTrial
from torchbase.testing.written_files import Write, WrittenFiles

SECONDS_ALONE = 600
SECONDS_TOGETHER = 60  # and the time that one process needs, several times
SECONDS_TO_END = 60
SAMPLES_PER_PART = 4


@dataclass(frozen=True)
class Failure:
    """Why a run ended early on a process.

    Attributes:
        message: The error.
        event: The event of the hook at which it was raised; None outside of the hook.
        is_of_communication: Whether another process was not where it was expected.
        is_late: Whether the process was ended since it took too long.
        places: Where each process communicates, if they are known.
    """

    message: str
    event: str | None = None
    is_of_communication: bool = False
    is_late: bool = False
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class ProcessRecord:
    """What one process of a run did.

    Attributes:
        trace: What its iterations used.
        outcome: Its results in memory; empty if it failed.
        writes: The files that it wrote.
        failure: Why its run ended early, or None.
    """

    trace: Trace
    outcome: Outcome
    writes: tuple[Write, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class ProcessesRun:
    """A run on one process or several.

    Attributes:
        folder: The folder in which its run directory was.
        records: What each process did, by index.
        on_disk: Its results on disk; empty if a process failed.
        seconds: How long it took.
    """

    folder: str
    records: tuple[ProcessRecord, ...]
    on_disk: Outcome
    seconds: float

    @property
    def main(self) -> ProcessRecord:
        """What the main process did."""
        return self.records[0]

    @property
    def outcome(self) -> Outcome:
        """The results of the main process, in memory and on disk."""
        return {**self.main.outcome, **self.on_disk}

    @property
    def has_failed(self) -> bool:
        """Whether the run ended early on any process."""
        return any(one.failure is not None for one in self.records)


class ProcessTrial:
    """Runs of one hook on one process and on several, with the same parts of each mini-batch, on the CPU.

    Attributes:
        trial: The runs of the hook on one process, with another config.
        count: The number of processes.
        parts: The number of parts of a mini-batch.
    """

    def __init__(self, trial: HookTrial, count: int) -> None:
        """Prepares the runs.

        Args:
            trial: The runs of the hook.
            count: The number of processes.
        """
        self.count = count
        # One more than processes, so that some compute more of them than others.
        session = trial.config["session"]
        self.parts = max(
            count, session.get("mini_batch_parts") or min(count + 1, session.get("mini_batch_size", count))
        )
        self.trial = trial.with_keys(device_name="cpu", mini_batch_parts=self.parts)
        if trial.session_class is NoisySession:
            size = SAMPLES_PER_PART * self.parts
            self.trial.config["session"]["mini_batch_size"] = size
            # The last mini-batch of training has two samples a part, for batch normalization. That of validation has
            # one sample, so that most processes have none.
            samples = {"training_samples": 4 * size + 2 * self.parts, "validation_samples": size + 1}
            self.trial.config["data"] = {**self.trial.config.get("data", {}), **samples}

    @cached_property
    def alone(self) -> ProcessesRun:
        """A run on one process."""
        return self.run(1, SECONDS_ALONE)

    @cached_property
    def again(self) -> ProcessesRun:
        """A second run on one process."""
        return self.run(1, SECONDS_ALONE)

    @cached_property
    def together(self) -> ProcessesRun:
        """A run on several processes."""
        return self.run(self.count, SECONDS_TOGETHER + 10 * self.count * self.alone.seconds)

    def run(self, count: int, seconds: float) -> ProcessesRun:
        """Runs a session on processes.

        Args:
            count: The number of processes.
            seconds: How long they may take.

        Returns:
            The run.
        """
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="torchbase-hook-", ignore_cleanup_errors=True) as name:
            folder, stacks = Path(name, "runs"), Path(name)
            with forked(count, partial(_record, self.trial, folder, stacks, seconds)) as processes:
                ended = wait_for(processes, seconds + SECONDS_TO_END)
            records = tuple(self._record_of(one, _stack_file(stacks, index)) for index, one in enumerate(ended))
            is_whole = all(one.failure is None for one in records)
            on_disk = collect_on_disk(next(folder.iterdir())) if is_whole else {}
        return ProcessesRun(str(folder), records, on_disk, time.monotonic() - start)

    def _record_of(self, ended: Ended, stack_file: Path) -> ProcessRecord:
        if isinstance(ended.value, ProcessRecord):
            return ended.value
        stack = stack_file.read_text(encoding="utf-8") if stack_file.exists() else ""
        if stack:
            event = HookFrames(self.trial.make_hook()).event_in(stack)
            failure = Failure("it took too long", event, is_of_communication=True, is_late=True)
        else:
            failure = Failure(ended.error or f"it ended with exit code {ended.exit_code}")
        return ProcessRecord(Trace(), {}, (), failure)


def _record(trial: HookTrial, folder: Path, stacks: Path, seconds: float, index: int) -> ProcessRecord:
    """Runs a session in this process, which ends afterwards, or when it takes too long."""
    sys.dont_write_bytecode = True
    with _stack_after(seconds, _stack_file(stacks, index)):
        hook = trial.make_hook()
        frames, trace, recorder = HookFrames(hook), ProcessTrace(), StateRecorder(hook)
        written = WrittenFiles(frames)
        checked = HookTrial(trial.make_hook, with_checked_processes(trial.session_class, frames), trial.config)
        try:
            session = checked.session(folder, [hook, recorder, trace])
            summary = session()
        except Exception as error:  # of the hook, whatever it is
            return ProcessRecord(_plain(trace), {}, written.writes, _failure_of(error, frames))
        return ProcessRecord(_plain(trace), collect_in_memory(session, summary, recorder.state_at_end), written.writes)


@contextmanager
def _stack_after(seconds: float, path: Path) -> Iterator[None]:
    """Ends this process after some time, wherever it waits, and writes its stack into a file."""
    with path.open("w", encoding="utf-8") as file:
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _stack_file(folder: Path, index: int) -> Path:
    return folder / f"stack-{index}.txt"


def _plain(trace: Trace) -> Trace:
    return Trace(trace.points)


def _failure_of(error: Exception, frames: HookFrames) -> Failure:
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return Failure(
        f"{type(error).__name__}: {error}{notes}",
        frames.event_of(error),
        is_of_communication=isinstance(error, ProcessError),
        places=error.places if isinstance(error, DifferentPlacesError) else (),
    )
