"""Stops a run between two iterations, with its state saved, on SIGINT (Ctrl-C) or SIGTERM (from a cluster)."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

from torchbase.checkpoints.storage import newest_progress
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.errors import RunDirectoryError

logger = logging.getLogger("torchbase")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Stops the run after the current iteration on SIGINT (Ctrl-C) or SIGTERM.

    The iteration is completed and a checkpoint is written. Then the signal is raised again, so the program ends as it
    would have without this hook. The last message says what is saved and how to continue. A second signal ends the
    program at once. A signal that the program ignores stays ignored, e.g. SIGINT in a script's background job.
    """

    def __init__(self) -> None:
        self._former_handlers: dict[signal.Signals, Any] = {}
        self._received: signal.Signals | None = None
        self._session_class: type | None = None

    @hookimpl
    def on_setup_start(self, session_class: type | None) -> None:
        """Stores the class that resumes the run."""
        self._session_class = session_class

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

        # None is a handler that isn't Python's and couldn't be restored.
        taken = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
        self._former_handlers = {number: signal.signal(number, handle) for number in taken}

    # Last, and listed before Checkpoint: of two hooks with trylast, the hook that is listed first is called last.
    @hookimpl(trylast=True)
    def on_run_end(self, run: Run) -> None:
        """Raises the signal again, which raises KeyboardInterrupt or ends the process."""
        # Before the handlers are restored: a process that another one has stopped ends by the same signal.
        received = [one for one in run.processes.gather(self._received, "the end of the run") if one is not None]
        self._restore_handlers()
        self._received = self._received or next(iter(received), None)
        if self._received is None:
            return
        message = f"{self._received.name} ended the run. {_describe_saved(run, self._session_class)}"
        if signal.getsignal(self._received) is signal.default_int_handler:
            raise KeyboardInterrupt(message)  # the message is the last line of the program
        logger.warning("%s", message)
        signal.raise_signal(self._received)

    @hookimpl(trylast=True)
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Restores the former handlers, and adds to a KeyboardInterrupt what is saved."""
        self._restore_handlers()
        if isinstance(error, KeyboardInterrupt) and not error.args:
            error.add_note(_describe_saved(run, self._session_class))

    def _restore_handlers(self) -> None:
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)
        self._former_handlers = {}


def _describe_saved(run: Run, session_class: type | None) -> str:
    if run.run_directory is None:
        return "Nothing is saved, since it has no run directory."
    path = run.run_directory.path
    try:
        newest = newest_progress(run.run_directory.states)
    except RunDirectoryError as error:
        return f"Its checkpoints are unknown: {error}"
    if newest is None:
        return f"There is no whole checkpoint in {path}."
    is_current = newest == (run.epochs_done, run.progress.iterations)
    saved = "" if is_current else f" after {newest[1]:,} iterations"
    if is_current and run.epochs_done >= run.max_epochs:
        return f"All its epochs are done and saved in {path}."
    resume = f"{session_class.__name__ if session_class is not None else 'MySession'}.resume"
    return f"Its state{saved} is saved in {path}. To continue: {resume}({str(path.parent)!r}, {path.name!r})()"
