"""Shows the progress of a run in a terminal or notebook: a progress bar, and one line per epoch."""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from tqdm.auto import tqdm

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
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
        self._bar: tqdm[Any] | None = None
        self._handler: logging.Handler | None = None
        self._former_level = logging.NOTSET
        self._is_best = False
        self._epoch_started_at = self._line_written_at = time.monotonic()

    # First, so that the messages of other hooks are shown.
    @hookimpl(tryfirst=True)
    def on_run_start(self, run: Run) -> None:
        """Shows lines, and logs the epochs, the device, the parameters and the run directory."""
        self._show_lines()
        where = f" in {run.run_directory.path}" if run.run_directory is not None else ""
        parameters = sum(parameter.numel() for parameter in run.network.parameters()) if run.network is not None else 0
        count = run.processes.count
        on = f"{count} processes ({run.device.type})" if count > 1 else str(run.device)
        logger.info("%s epochs on %s, %s parameters%s", f"{run.max_epochs:,}", on, f"{parameters:,}", where)

    @hookimpl
    def on_epoch_start(self) -> None:
        """Starts the clock of the epoch."""
        self._epoch_started_at, self._is_best = time.monotonic(), False

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Resets the bar to the position of the phase, which a resumed run starts in the middle."""
        self._line_written_at = time.monotonic()
        description, total = f"epoch {run.epoch}/{run.max_epochs} {phase.name}", phase.count_mini_batches(run.epoch)
        if self._bar is None:
            disable = None if _is_open(sys.stderr) else True  # None disables it outside of a terminal
            self._bar = tqdm(desc=description, total=total, unit="batch", leave=False, disable=disable)
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
                "epoch %d/%d %s: mini-batch %s%s%s",
                run.epoch,
                run.max_epochs,
                phase.name,
                f"{rows[-1].mini_batch:,}",
                f" of {length:,}" if length is not None else "",
                f", loss {loss:.4g}" if loss is not None else "",
            )

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Logs a line with the averages of a validation within an epoch."""
        if not run.training.progress.is_done:
            logger.info("%s  %s: %s", _position(run), _short_name(phase), _describe(phase.averages))

    @hookimpl
    def on_best_epoch(self, run: Run) -> None:
        """Marks the epoch as the best so far, or logs this at once within an epoch."""
        if run.training.progress.is_done:
            self._is_best = True
        else:
            logger.info("%s  best so far", _position(run))

    @hookimpl
    def on_epoch_end(self, run: Run) -> None:
        """Logs the line of the epoch."""
        averages = " | ".join(f"{_short_name(phase)}: {_describe(phase.averages)}" for phase in run.phases_due)
        best = "  (best so far)" if self._is_best else ""
        seconds = time.monotonic() - self._epoch_started_at
        logger.info("epoch %d/%d  %s  %.1f s%s", run.epoch, run.max_epochs, averages, seconds, best)

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
        stream = sys.stdout if _is_notebook() else sys.stderr
        if not logger.hasHandlers() and _is_open(stream):
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
            tqdm.write(self.format(record), file=self._stream)
        except Exception:
            if _is_open(sys.stderr):  # where the error is shown
                self.handleError(record)


def _is_open(stream: TextIO | None) -> bool:
    # A program without a console, such as a service or a script of pythonw, has None.
    return stream is not None and not getattr(stream, "closed", False)


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _position(run: Run) -> str:
    return f"epoch {run.epoch}/{run.max_epochs}, iteration {run.progress.iterations:,}"


def _short_name(phase: Phase) -> str:
    return phase.name.removeprefix(VALIDATION_PREFIX)


def _describe(averages: Mapping[str, float]) -> str:
    by_name = sorted(averages.items(), key=lambda item: item[0] != "loss")  # the loss first, the others in their order
    return ", ".join(f"{name} {value:.4g}" for name, value in by_name)
