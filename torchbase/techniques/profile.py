"""Profiles some iterations."""

import logging
from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import HookError
from torchbase.files.durable import write_durably
from torchbase.run_directory.directory import RunDirectory

logger = logging.getLogger("torchbase")


class Profile:
    """Profiles some training iterations by ``torch.profiler``.

    For finding out what the host and the device do, and when. A chrome trace and a table of the operations are written
    to ``profile/`` of the run directory; look at the trace in ``chrome://tracing`` or https://ui.perfetto.dev. Reading
    the mini-batches is in it, and a validation phase that stands between two of the iterations. Profiling is slow:
    choose some ten iterations, behind the first ones, in which much is done once.

    Source: https://docs.pytorch.org/docs/stable/profiler.html

    Example:
        >>> hook = Profile(range(100, 110))
    """

    def __init__(self, iterations: range, **options: Any) -> None:
        """Sets which iterations, and what is recorded.

        Args:
            iterations: Training iterations counted over the whole run, of which the first is 1; one behind the other.
            **options: Those of ``torch.profiler.profile``, e.g. ``record_shapes=True``, ``with_stack=True``.

        Raises:
            HookError: If there is no iteration in the range, or some are left out.
        """
        if len(iterations) == 0 or iterations.step != 1 or iterations.start < 1:
            raise HookError(
                f"Profile takes a range of iterations from 1, one behind the other, and got {iterations!r}. To fix, "
                "give e.g. range(100, 110)."
            )
        self._iterations, self._options = iterations, options
        self._profiler: torch.profiler.profile | None = None
        self._first = 0

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Looks whether there is a place for the files, before training."""
        _directory_of(run)

    @hookimpl
    def on_phase_start(self, phase: Phase) -> None:
        """Begins with the first mini-batch of the phase, if it is time."""
        self._begin_if_due(phase)

    # Last, so that what other hooks do is in it.
    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Begins, goes on, or ends."""
        if self._profiler is None:
            self._begin_if_due(phase)
        elif phase.is_training:
            self._profiler.step()
            if phase.progress.iterations + 1 not in self._iterations:
                self._end(run)

    @hookimpl
    def on_run_end(self, run: Run) -> None:
        """Ends."""
        self._end(run)

    @hookimpl
    def on_exception(self, run: Run) -> None:
        """Ends."""
        self._end(run)

    def _begin_if_due(self, phase: Phase) -> None:
        if self._profiler is None and phase.is_training and phase.progress.iterations + 1 in self._iterations:
            self._first = phase.progress.iterations + 1
            self._profiler = torch.profiler.profile(**self._options)
            self._profiler.start()

    def _end(self, run: Run) -> None:
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        name = f"profile/iterations-{self._first:010d}-to-{run.progress.iterations:010d}"
        trace, table = (_directory_of(run).file(f"{name}.{kind}") for kind in ("json", "txt"))
        profiler.export_chrome_trace(str(trace))
        operations = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=50)
        write_durably(table, lambda file: file.write(operations.encode()))
        logger.info("Profiled the iterations %d to %d: %s", self._first, run.progress.iterations, trace)


def _directory_of(run: Run) -> RunDirectory:
    if run.run_directory is None:
        raise HookError("Profile writes into the run directory, and this run has none. To fix, give the run one.")
    return run.run_directory
