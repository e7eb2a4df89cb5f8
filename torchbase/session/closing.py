"""How a session locks its run directory, unlocks it, and removes it if nothing in it is of use."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from torchbase.checkpoints.listing import has_results
from torchbase.distributed.processes import Processes
from torchbase.engine.loop import Engine
from torchbase.errors import HookError, RunDirectoryError
from torchbase.run_directory.directory import RunDirectory, names_file_in
from torchbase.session.constructor import set_by_constructor
from torchbase.session.replaying import replaying
from torchbase.session.together import tell_result


class SessionClosing(ABC):
    """The run directory of a session: closed, removed if nothing in it is of use, and made again if it is needed."""

    processes: Processes = set_by_constructor()
    engine: Engine = set_by_constructor()
    _run_directory: RunDirectory = set_by_constructor()
    _was_called = False
    _is_training = False

    def close(self) -> None:
        """Unlocks the run directory, so that another session can open it. A ``with`` statement does so at its end.

        If the session was never called, and nothing else was written into the run directory that it made, the directory
        is removed. A later call of the session makes it again. After a call there is nothing to close.

        Raises:
            RunDirectoryError: If the session is training, or the operating system reports an error.
        """
        if self._is_training:
            raise RunDirectoryError(
                f"The session of {self._run_directory.path} can't be closed while it trains. To fix, stop it first, "
                "with run.request_stop(…) in a hook."
            )
        if self._was_called or not self._run_directory.remove_if_unused():
            self._run_directory.unlock()

    def __enter__(self) -> Self:
        """Returns the session."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the session."""
        self.close()

    @contextmanager
    def _holding_directory(self) -> Iterator[None]:
        # Before the clean-up, which must not remove the directory of another session.
        was_discarded = tell_result(self.processes, self._lock_or_make_again, "the start of a call of the session")
        if was_discarded:
            if not self.processes.is_main:
                self._run_directory.make_again()
            self._fire_setup()
        self._run_directory.errors.begin_call()
        self._was_called = True
        is_outermost, self._is_training = not self._is_training, True
        try:
            with replaying(self.engine, self._run_directory.path), self._cleaning_up_after_errors():
                yield
        finally:
            self._is_training = not is_outermost
        self._run_directory.unlock()

    @contextmanager
    def _discarding_after_errors(self) -> Iterator[None]:
        """Removes a new run directory after a slip that comes before training."""
        try:
            yield
        except HookError:
            if not self._was_called:
                self._run_directory.remove_if_unused()
            raise

    @contextmanager
    def _cleaning_up_after_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            raised, errors = error, self._run_directory.errors
            errors.record(error)
            # A file that the error names has to be there when the error is read, and so do the errors of the processes.
            self._run_directory.remove_unless(
                lambda path: has_results(path) or names_file_in(path, raised) or errors.has_errors()
            )
            self._run_directory.unlock()
            raise

    def _lock_or_make_again(self) -> bool:
        """Returns whether the directory had been removed."""
        was_discarded = self._run_directory.is_discarded
        if was_discarded:
            self._run_directory.make_again()
        else:
            self._run_directory.lock()
        return was_discarded

    @abstractmethod
    def _fire_setup(self) -> None:
        """Fires `on_setup_start`, so that the hooks write the first files of the run directory."""
