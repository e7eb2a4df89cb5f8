"""Lets SIGINT (Ctrl-C) and SIGTERM (a cluster's) end a run between two iterations, with everything kept."""

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
    """Turns a signal into a request to stop, and raises it again once the run is kept.

    The iteration is finished and a checkpoint written; then the program ends as the signal would have ended it. A
    second signal ends it at once.
    """

    def __init__(self) -> None:
        self._former_handlers: dict[signal.Signals, Any] = {}
        self._received: signal.Signals | None = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Puts the handlers in place; only the main thread can."""
        self._received = None
        if threading.current_thread() is not threading.main_thread():
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._received is not None:
                self._give_back_handlers()
                signal.raise_signal(number)
                return
            self._received = signal.Signals(number)
            logger.warning("%s: the run ends after this iteration. A second one ends it at once.", self._received.name)
            run.request_stop(f"interrupted by {self._received.name}")

        self._former_handlers = {number: signal.signal(number, handle) for number in SIGNALS}

    # Last, and listed before Checkpoint: of two hooks that ask to be last, the one listed first is the very last.
    @hookimpl(trylast=True)
    def on_run_end(self) -> None:
        """Raises the signal again: KeyboardInterrupt, or the end of the process."""
        self._give_back_handlers()
        if self._received is not None:
            signal.raise_signal(self._received)

    @hookimpl(trylast=True)
    def on_exception(self) -> None:
        """Gives the handlers back."""
        self._give_back_handlers()

    def _give_back_handlers(self) -> None:
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)
        self._former_handlers = {}
