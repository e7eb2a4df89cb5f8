"""Stops a run between two iterations, with its state saved, on SIGINT (Ctrl-C) or SIGTERM (from a cluster)."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run

logger = logging.getLogger("torchbase")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Stops the run after the current iteration on SIGINT (Ctrl-C) or SIGTERM.

    The iteration is completed and a checkpoint is written. Then the signal is raised again, so the program ends as it
    would have without this hook. A second signal ends the program at once.
    """

    def __init__(self) -> None:
        self._former_handlers: dict[signal.Signals, Any] = {}
        self._received: signal.Signals | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Sets the signal handlers, which only the main thread can do."""
        self._received = None
        if threading.current_thread() is not threading.main_thread():
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._received is not None:
                self._restore_handlers()
                signal.raise_signal(number)
                return
            self._received = signal.Signals(number)
            logger.warning(
                "%s: the run ends after this iteration. A second signal ends it at once.", self._received.name
            )
            run.request_stop(f"interrupted by {self._received.name}")

        self._former_handlers = {number: signal.signal(number, handle) for number in SIGNALS}

    # Last, and listed before Checkpoint: of two hooks with trylast, the hook that is listed first is called last.
    @hookimpl(trylast=True)
    def on_run_end(self) -> None:
        """Raises the signal again, which raises KeyboardInterrupt or ends the process."""
        self._restore_handlers()
        if self._received is not None:
            signal.raise_signal(self._received)

    @hookimpl(trylast=True)
    def on_exception(self) -> None:
        """Restores the former handlers."""
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)
        self._former_handlers = {}
