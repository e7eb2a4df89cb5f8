"""Shows the progress of a run in a terminal or notebook: a progress bar, and one line per epoch."""

import logging
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.hooks.epoch_lines import EpochClock, describe_averages, terminal_width
from torchbase.hooks.progress_bar import Bar, is_notebook, is_open, make_bar
from torchbase.run_directory.names import VALIDATION_PREFIX

logger = logging.getLogger("torchbase")

SECONDS_BETWEEN_PLAIN_LINES = 30.0


class Console:
    """Shows a progress bar in a terminal or notebook, and plain lines elsewhere.

    The lines are messages of the logger ``torchbase``. If the program has not configured logging, a handler shows them
    during the run: on stderr, but in a notebook on stdout, because a notebook displays stderr as an error. Without
    stderr nothing is shown. All phases share one bar, because a notebook would keep the space of each finished bar.
    """

    main_process_only = True

    def __init__(self) -> None:
        self._bar: Bar[Any] | None = None
        self._handler: logging.Handler | None = None
        self._former_level = logging.NOTSET
        self._is_best = False
        self._clock, self._line_written_at = EpochClock(), time.monotonic()

    # First, so that the messages of other hooks are shown.
    @hookimpl(tryfirst=True)
    def on_run_start(self, run: Run) -> None:
        """Shows lines, and logs the length of the run, the device, the parameters and the run directory."""
        self._show_lines()
        self._clock.start_run()
        where = f" in {run.run_directory.path}" if run.run_directory is not None else ""
        parameters = sum(parameter.numel() for parameter in run.network.parameters()) if run.network is not None else 0
        count = run.processes.count
        on = f"{count} processes ({run.device.type})" if count > 1 else str(run.device)
        bound = f"{run.max_epochs:,} epochs"
        if run.max_iterations is not None:
            bound = f"at most {run.max_iterations:,} iterations and {bound}"
        logger.info("%s on %s, %s parameters%s", bound, on, f"{parameters:,}", where)

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Starts the clock of the epoch."""
        self._is_best = False
        self._clock.start_epoch(run)

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Resets the bar to the position of the phase, which a resumed run starts in the middle."""
        self._line_written_at = time.monotonic()
        description, total = f"{_position(run)} {phase.name}", _mini_batches(run, phase)
        if self._bar is None:
            self._bar = make_bar(description, total)
        self._bar.reset(total)
        self._bar.total = total  # reset(None) would leave the total of the previous phase
        self._bar.initial = self._bar.n = phase.progress.mini_batches
        self._bar.set_description(description)

    @hookimpl
    def on_values_read(self, run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Advances the bar; without a terminal, logs a line from time to time."""
        if self._bar is None:
            return
        self._bar.update(len(rows))
        loss = rows[-1].values.get("loss")
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        now = time.monotonic()
        if self._bar.disable and now - self._line_written_at >= SECONDS_BETWEEN_PLAIN_LINES:
            self._line_written_at = now
            length = phase.count_mini_batches(run.epoch)
            logger.info(
                "%s %s: mini-batch %s%s%s",
                _position(run),
                phase.name,
                f"{rows[-1].mini_batch:,}",
                f" of {length:,}" if length is not None else "",
                f", loss {loss:.4g}" if loss is not None else "",
            )

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Logs a line with the averages of a validation within an epoch."""
        if not run.training.progress.is_done:
            averages = {_short_name(phase): phase.averages}
            logger.info("%s", describe_averages(_position_within(run), averages, width=terminal_width()))

    @hookimpl
    def on_best_epoch(self, run: Run) -> None:
        """Marks the epoch as the best so far, or logs this at once within an epoch."""
        if run.training.progress.is_done:
            self._is_best = True
        else:
            logger.info("%s  best so far", _position_within(run))

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Logs the averages of the epoch, how long it took, and an estimate of the time left."""
        averages = {_short_name(phase): phase.averages for phase in run.phases_due}
        ending = self._clock.describe(run) + ", best" * self._is_best
        logger.info("%s", describe_averages(_position(run), averages, ending, terminal_width()))

    @hookimpl(trylast=True)
    def on_run_end(self, run: Run) -> None:
        """Logs the lowest losses, and why the run stopped."""
        self._close_bar()
        within = {phase.name for phase in run.validation if phase.is_within_training}
        for name, best in run.best_losses.items():
            when = f"iteration {best.iteration:,}" if name in within else f"epoch {best.epoch}"
            logger.info("%s: lowest loss %.4g, after %s", name, best.loss, when)
        if run.stop_reason is not None:
            logger.info("stopped after %d epochs: %s", run.epochs_done, run.stop_reason)
        self._hide_lines()

    @hookimpl(trylast=True)
    def on_exception(self) -> None:
        """Removes the bar."""
        self._close_bar()
        self._hide_lines()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show_lines(self) -> None:
        self._hide_lines()
        stream = sys.stdout if is_notebook() else sys.stderr
        if not logger.hasHandlers() and is_open(stream):
            self._handler = _LinesAboveTheBar(stream)
            self._handler.setFormatter(logging.Formatter("%(message)s"))
            logger.addHandler(self._handler)
            self._former_level = logger.level
            logger.setLevel(logging.INFO)

    def _hide_lines(self) -> None:
        if self._handler is not None:
            logger.removeHandler(self._handler)
            logger.setLevel(self._former_level)
            self._handler = None


class _LinesAboveTheBar(logging.Handler):
    """A handler that writes lines above the progress bar."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            Bar.write(self.format(record), file=self._stream)
        except Exception:
            if is_open(sys.stderr):  # where the error is shown
                self.handleError(record)


def _mini_batches(run: Run, phase: Phase) -> int | None:
    """Returns how many mini-batches of the phase run in this epoch; None if it isn't known."""
    count = phase.count_mini_batches(run.epoch)
    if not phase.is_training or run.max_iterations is None:
        return count
    left = phase.progress.mini_batches + max(0, run.max_iterations - phase.progress.iterations)
    return left if count is None else min(left, count)


def _position(run: Run) -> str:
    if run.max_iterations is not None:
        return f"epoch {run.epoch}, iteration {run.progress.iterations:,}/{run.max_iterations:,}"
    return f"epoch {run.epoch}/{run.max_epochs}"


def _position_within(run: Run) -> str:
    position = _position(run)
    return position if run.max_iterations is not None else f"{position}, iteration {run.progress.iterations:,}"


def _short_name(phase: Phase) -> str:
    return phase.name.removeprefix(VALIDATION_PREFIX)
