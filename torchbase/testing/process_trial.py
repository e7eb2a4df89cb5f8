"""The runs of a hook on several processes, and those on one process with which they are compared."""

import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path

import torch

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

SECONDS_TO_COMMUNICATE = 60
SECONDS_ALONE = 600
SAMPLES_PER_PART = 4


@dataclass(frozen=True)
class Failure:
    """Why a run ended early on a process.

    Attributes:
        message: The error.
        event: The event of the hook at which it was raised; None outside of the hook.
        is_of_communication: Whether another process was not where it was expected.
        places: Where each process communicates, if they are known.
    """

    message: str
    event: str | None = None
    is_of_communication: bool = False
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
        self.parts = max(trial.config["session"].get("mini_batch_parts") or count + 1, count)
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
        return self._run(1, SECONDS_ALONE)

    @cached_property
    def again(self) -> ProcessesRun:
        """A second run on one process."""
        return self._run(1, SECONDS_ALONE)

    @cached_property
    def together(self) -> ProcessesRun:
        """A run on several processes."""
        return self._run(self.count, 2 * SECONDS_TO_COMMUNICATE + 10 * self.count * self.alone.seconds)

    def _run(self, count: int, seconds: float) -> ProcessesRun:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="torchbase-hook-", ignore_cleanup_errors=True) as folder:
            with forked(count, partial(_record, self.trial, Path(folder), count)) as processes:
                records = tuple(map(_record_of, wait_for(processes, seconds)))
            is_whole = all(one.failure is None for one in records)
            on_disk = collect_on_disk(next(Path(folder).iterdir())) if is_whole else {}
        return ProcessesRun(folder, records, on_disk, time.monotonic() - start)


def _record(trial: HookTrial, folder: Path, count: int, index: int) -> ProcessRecord:
    """Runs a session in this process, which ends afterwards."""
    sys.dont_write_bytecode = True
    hook = trial.make_hook()
    frames, trace, recorder = HookFrames(hook), ProcessTrace(), StateRecorder(hook)
    written = WrittenFiles(frames)
    checked = HookTrial(trial.make_hook, with_checked_processes(trial.session_class, frames), trial.config)
    try:
        if count > 1:  # before the session does it, with a longer limit
            limit = timedelta(seconds=SECONDS_TO_COMMUNICATE)
            torch.distributed.init_process_group("gloo", timeout=limit)
        session = checked.session(folder, [hook, recorder, trace])
        summary = session()
    except Exception as error:  # of the hook, whatever it is
        return ProcessRecord(_plain(trace), {}, written.writes, _failure_of(error, frames))
    return ProcessRecord(_plain(trace), collect_in_memory(session, summary, recorder.state_at_end), written.writes)


def _plain(trace: Trace) -> Trace:
    return Trace(trace.points)


def _failure_of(error: Exception, frames: HookFrames) -> Failure:
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return Failure(
        f"{type(error).__name__}: {error}{notes}",
        frames.event_of(error),
        isinstance(error, ProcessError),
        error.places if isinstance(error, DifferentPlacesError) else (),
    )


def _record_of(ended: Ended) -> ProcessRecord:
    if isinstance(ended.value, ProcessRecord):
        return ended.value
    message = ended.error if ended.error is not None else f"the process ended with exit code {ended.exit_code}"
    return ProcessRecord(Trace(), {}, (), Failure(message))
