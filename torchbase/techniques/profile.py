"""Profiles iterations."""

import logging
from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import HookError
from torchbase.files.durable import write_durably
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.names import PROFILE_FOLDER

logger = logging.getLogger("torchbase")


class Profile:
    """Profiles training iterations with ``torch.profiler``.

    For finding out when the host and the device do what. A Chrome trace and a table of operations are written to
    ``profile/`` in the run directory. View the trace in ``chrome://tracing`` or https://ui.perfetto.dev. The profile
    includes the loading of mini-batches, and any validation between the iterations. Profiling is slow: choose about ten
    iterations, after the first iterations, which include one-time work. With several processes, the main process is
    profiled.

    Source: https://docs.pytorch.org/docs/stable/profiler.html

    Example:
        >>> hook = Profile(range(100, 110))
    """

    main_process_only = True

    def __init__(self, iterations: range, **options: Any) -> None:
        """Sets the iterations and the options of the profiler.

        Args:
            iterations: A range of consecutive training iterations, counted over the whole run from 1.
            **options: The options of ``torch.profiler.profile``, e.g. ``record_shapes=True``, ``with_stack=True``.

        Raises:
            HookError: If the range is empty, starts below 1, or has a step other than 1.
        """
        if len(iterations) == 0 or iterations.step != 1 or iterations.start < 1:
            raise HookError(
                "Profile expects a range of consecutive iterations, counted from 1, but got "
                f"{iterations!r}. To fix, pass e.g. range(100, 110)."
            )
        self._iterations, self._options = iterations, options
        self._profiler: torch.profiler.profile | None = None
        self._first = 0

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Checks before training that the run has a directory."""
        _directory_of(run)

    @hookimpl
    def on_phase_start(self, phase: Phase) -> None:
        """Starts the profiler if the first iteration of the phase is due."""
        self._start_if_due(phase)

    # Last, so that the profile includes the other hooks.
    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Starts, advances or stops the profiler."""
        if self._profiler is None:
            self._start_if_due(phase)
        elif phase.is_training:
            self._profiler.step()
            if phase.progress.iterations + 1 not in self._iterations:
                self._stop(run)

    @hookimpl
    def on_run_end(self, run: Run) -> None:
        """Stops the profiler."""
        self._stop(run)

    @hookimpl
    def on_exception(self, run: Run) -> None:
        """Stops the profiler."""
        self._stop(run)

    def _start_if_due(self, phase: Phase) -> None:
        if self._profiler is None and phase.is_training and phase.progress.iterations + 1 in self._iterations:
            self._first = phase.progress.iterations + 1
            self._profiler = torch.profiler.profile(**self._options)
            self._profiler.start()

    def _stop(self, run: Run) -> None:
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        name = f"{PROFILE_FOLDER}/iterations-{self._first:010d}-to-{run.progress.iterations:010d}"
        trace, table = (_directory_of(run).file(f"{name}.{kind}") for kind in ("json", "txt"))
        profiler.export_chrome_trace(str(trace))
        operations = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=50)
        write_durably(table, lambda file: file.write(operations.encode()))
        logger.info("Profiled iterations %d to %d: %s", self._first, run.progress.iterations, trace)


def _directory_of(run: Run) -> RunDirectory:
    if run.run_directory is None:
        raise HookError(
            "Profile writes into the run directory, but this run has none. To fix, pass run_directory to Run."
        )
    return run.run_directory
