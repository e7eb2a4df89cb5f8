"""Logs how much memory a run uses."""

import logging
import os
from collections.abc import Mapping, Sequence

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.intervals import Interval
from torchbase.techniques.memory_use import (
    device_memory,
    peak_of_this_process,
    reset_peak,
    resident_memory,
    worker_ids,
)

logger = logging.getLogger("torchbase")

GIB = 2**30
PURPOSE = "the memory of all processes"


class MemoryMonitor:
    """Logs the memory of the host and of the device at regular intervals, and its peaks in each epoch.

    For finding out why memory runs out, or what a larger mini-batch would need. All values are in GiB:
    ``host_memory_gib`` is the resident memory of the process, ``worker_memory_gib`` that of the workers of its loaders
    together, in which memory that they share counts several times. ``device_memory_allocated_gib`` is what tensors use,
    ``device_memory_reserved_gib`` what torch has reserved for them. After each epoch, ``host_memory_peak_gib`` and
    ``device_memory_peak_gib`` are the most since its start; the latter is logged at the intervals, too. A line at the
    end of the run has the highest peaks.

    The peak of the host is exact if the process has never used more, else it is the highest of the values at the
    intervals. The peak of the device is that of torch. **At the start of each epoch it is reset**, as by
    ``torch.cuda.reset_peak_memory_stats``, so your own calls of ``torch.cuda.max_memory_allocated`` return the peak
    since then. The host never waits for the device. With several processes, each value is the largest of any process.
    The memory of the host is read on Linux, macOS and other systems with ``ps``.

    Example:
        >>> hook = MemoryMonitor(every="100it")
    """

    def __init__(self, every: str | Interval = "100it") -> None:
        """Sets how often the memory is logged.

        Args:
            every: The interval: training iterations (``"100it"``), epochs (``"1ep"``) or seconds (``"60s"``).

        Raises:
            IntervalError: If the interval is invalid.
        """
        self._every = Interval.parse(every)
        self._logged_at = 0.0
        self._host_peak_before = 0  # that of the process, up to the start of the epoch
        self._peaks: dict[str, int] = {}  # of the epoch, in this process
        self._highest: dict[str, int] = {}  # of all epochs

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks before training that the memory can be read."""
        self._logged_at, self._host_peak_before = run.processes.now(), peak_of_this_process()
        self._peaks, self._highest = {}, {}
        self._measure(run)

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Resets the peaks."""
        reset_peak(run.device)
        self._host_peak_before, self._peaks = peak_of_this_process(), {}
        self._measure(run)

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Logs the memory if that is due."""
        if phase.is_training and self._is_due(run, phase.progress.iterations):
            self._logged_at = run.processes.now()
            self._log(run, self._measure(run), "iterations", phase.progress.iterations)

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Logs the peaks of the epoch, and the memory if that is due."""
        measured = self._measure(run)
        values = measured if self._every.is_due_after(epochs=run.epochs_done) else {}
        self._log(run, {**values, **self._peaks}, "epochs", run.epochs_done)

    @hookimpl
    def on_run_end(self, run: Run) -> None:
        """Logs the line with the highest peaks."""
        self._measure(run)
        highest = _largest(run.processes.gather(self._highest, PURPOSE))
        peaks = [f"{name.partition('_')[0]} {value / GIB:.3g} GiB" for name, value in highest.items()]
        logger.info("Memory at most: %s", ", ".join(peaks))

    def _is_due(self, run: Run, iterations: int) -> bool:
        if self._every.unit == "s":
            return run.processes.now() - self._logged_at >= self._every.count
        return self._every.is_due_after(iterations=iterations)

    def _measure(self, run: Run) -> dict[str, int]:
        """Returns what is used now, in bytes, and notes the peaks."""
        host, workers, device = resident_memory([os.getpid()]), worker_ids(), device_memory(run.device)
        peak = peak_of_this_process()
        peaks = {"host_memory_peak": peak if peak > self._host_peak_before else host}
        measured = {"host_memory": host}
        if workers:
            measured["worker_memory"] = resident_memory(workers)
        if device:
            peaks["device_memory_peak"] = device.pop("peak", device["allocated"])
            measured.update({f"device_memory_{name}": value for name, value in device.items()})
        self._peaks, self._highest = _largest([self._peaks, peaks]), _largest([self._highest, peaks])
        return measured | {name: value for name, value in self._peaks.items() if name.startswith("device")}

    def _log(self, run: Run, values: Mapping[str, int], unit: str, step: int) -> None:
        largest = _largest(run.processes.gather(dict(values), PURPOSE))
        scalars = {run.training.tag(f"{name}_gib", unit): value / GIB for name, value in largest.items()}
        run.call.log_scalars(run=run, scalars=scalars, step=step)


def _largest(several: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for values in several for name in values)
    return {name: max(values[name] for values in several if name in values) for name in names}
