"""Records an error of one of several processes for people and for the other processes."""

from torchbase.engine.hookspecs import hookimpl
from torchbase.run_directory.directory import RunDirectory


class ProcessErrors:
    """Records the error that ends a run on several processes in ``errors/process-N.txt``, one file per process.

    A process that fails only because another one has ended looks there for the first error, and names it in a note. The
    session registers the hook if there are several processes.
    """

    def __init__(self) -> None:
        self._run_directory: RunDirectory | None = None

    @hookimpl
    def on_setup_start(self, run_directory: RunDirectory) -> None:
        """Stores the run directory."""
        self._run_directory = run_directory

    # First: the other processes look for the error, and the other hooks of this one record it with its notes.
    @hookimpl(tryfirst=True)
    def on_exception(self, error: BaseException) -> None:
        """Records the error."""
        if self._run_directory is not None:
            self._run_directory.errors.record(error)
