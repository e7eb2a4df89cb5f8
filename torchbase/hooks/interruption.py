"""Stops a run between two iterations, with its state saved, on SIGINT (Ctrl-C) or a signal of a cluster."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

from torchbase.checkpoints.listing import newest_progress
from torchbase.distributed.joining import was_launched
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.errors import RunDirectoryError
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.error_files import OrderlyExit
from torchbase.run_directory.names import STATES_FOLDER

logger = logging.getLogger("torchbase")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
REQUEUE_STATUS = 75  # EX_TEMPFAIL of sysexits.h: a failure that passes, so another attempt is invited
_STATUS_OF_SIGNALS = 128  # as shells and containers report a program that a signal has ended


class Interruption:
    """Stops the run after the current iteration on SIGINT (Ctrl-C), SIGTERM or the signal of a scheduler.

    The iteration is completed and a checkpoint is written. Then the signal is raised again, so the program ends as it
    would have without this hook. The last message says what is saved and how to continue. A second signal ends the
    program at once. A signal that the program ignores stays ignored, e.g. SIGINT in a script's background job.

    After the ``preemption_signal`` the program exits with the status `REQUEUE_STATUS` instead, which asks whoever has
    started it to start it again. This signal isn't ignored, since the config names it.

    Of several processes, all stop after the same iteration, and end by the signal that one has received. A second
    signal is ignored, as it is in each program that torchrun has started: a cluster may send it to each process, and
    torchrun passes it on. torchrun ends its processes with SIGKILL 30 seconds after it was signalled itself.
    """

    def __init__(self, preemption_signal: str | None = None) -> None:
        """Sets which signal announces that the program will be ended and started again.

        Args:
            preemption_signal: The name of the signal, such as ``"SIGUSR1"``; None if there is none.
        """
        self._preemption = None if preemption_signal is None else signal.Signals[preemption_signal]
        self._former_handlers: dict[signal.Signals, Any] = {}
        self._received: signal.Signals | None = None
        self._session_class: type | None = None
        self._run_directory: RunDirectory | None = None

    @hookimpl
    def on_setup_start(self, run_directory: RunDirectory, session_class: type | None) -> None:
        """Stores the class that resumes the run, and the directory, which a run has on the main process only."""
        self._run_directory, self._session_class = run_directory, session_class

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Sets the signal handlers, which only the main thread can do."""
        self._received = None
        if threading.current_thread() is not threading.main_thread():
            if self._preemption is not None:
                logger.warning("%s", self._explain_untaken("the session trains in a thread, which receives no signals"))
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._received is not None:
                if self._ends_at_once(run, number):
                    self._restore_handlers()
                    signal.raise_signal(number)
                return
            self._received = signal.Signals(number)
            second = " A second signal ends it at once." if self._ends_at_once(run, number) else ""
            logger.warning("%s: the run ends after this iteration.%s", self._received.name, second)
            run.request_stop(f"interrupted by {self._received.name}")

        # None is a handler that isn't Python's and couldn't be restored.
        taken = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
        if self._preemption is not None and signal.getsignal(self._preemption) is None:
            logger.warning("%s", self._explain_untaken("another library than Python has taken it"))
        elif self._preemption is not None and self._preemption not in taken:
            taken.append(self._preemption)
        self._former_handlers = {number: signal.signal(number, handle) for number in taken}

    def _ends_at_once(self, run: Run, second: int) -> bool:
        """Whether a second signal ends the program at once: if a person has sent it, as far as that can be known."""
        if run.processes.count > 1 or was_launched():
            return False
        # A scheduler sends SIGTERM when the time is up that it has announced.
        return self._received is not self._preemption or second == signal.SIGINT

    def _explain_untaken(self, reason: str) -> str:
        name = "" if self._preemption is None else self._preemption.name
        return f"The preemption_signal {name} won't stop this run with a checkpoint, since {reason}."

    # Last, and listed before Checkpoint: of two hooks with trylast, the hook that is listed first is called last.
    @hookimpl(trylast=True)
    def on_run_end(self, run: Run) -> None:
        """Raises the signal again, which raises KeyboardInterrupt or ends the process, or asks to be started again."""
        # Before the handlers are restored: a process that another one has stopped ends by the same signal.
        received = [one for one in run.processes.gather(self._received, "the end of the run") if one is not None]
        if received:
            message = run.processes.tell(self._describe_saved(run), "the last message of the run")
        self._restore_handlers()
        number = self._received or next(iter(received), None)
        if number is None:
            return
        if not received:  # it came after this process had sent that it had none
            message = self._describe_saved(run)
        self._end_program(number, f"{number.name} ended the run. {message}")

    def _end_program(self, number: signal.Signals, message: str) -> None:
        handler = signal.getsignal(number)
        is_default = handler in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
        if number is self._preemption and is_default:
            logger.warning("%s", message)
            raise OrderlyExit(REQUEUE_STATUS)
        if handler is signal.default_int_handler:
            raise KeyboardInterrupt(message)  # the message is the last line of the program
        logger.warning("%s", message)
        signal.raise_signal(number)
        if is_default:  # it has had no effect, since this is the first process of a container
            raise OrderlyExit(_STATUS_OF_SIGNALS + number)

    @hookimpl(trylast=True)
    def on_exception(self, run: Run, error: BaseException) -> None:
        """Restores the former handlers, and adds to a KeyboardInterrupt what is saved."""
        self._restore_handlers()
        if isinstance(error, KeyboardInterrupt) and not error.args:
            error.add_note(self._describe_saved(run))

    def _restore_handlers(self) -> None:
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)
        self._former_handlers = {}

    def _describe_saved(self, run: Run) -> str:
        directory = run.run_directory or self._run_directory
        if directory is None:
            return "Nothing is saved, since it has no run directory."
        path = directory.path
        try:
            newest = newest_progress(path / STATES_FOLDER)
        except RunDirectoryError as error:
            return f"Its checkpoints are unknown: {error}"
        if newest is None:
            return f"There is no whole checkpoint in {path}."
        is_current = newest == (run.epochs_done, run.progress.iterations)
        saved = "" if is_current else f" after {newest[1]:,} iterations"
        if is_current and run.epochs_done >= run.max_epochs:
            return f"All its epochs are done and saved in {path}."
        resume = f"{self._session_class.__name__ if self._session_class is not None else 'MySession'}.resume"
        return f"Its state{saved} is saved in {path}. To continue: {resume}({str(path.parent)!r}, {path.name!r})()"
