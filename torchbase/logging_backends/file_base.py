"""The base class of backends that append to files of the run directory, and truncate them when a run resumes."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.files.append_only import AppendOnlyFile, file_sizes, truncate_files
from torchbase.logging_backends.base import LoggingBackend
from torchbase.logging_backends.records import Record

File = TypeVar("File", bound=AppendOnlyFile)


class FileBackend(LoggingBackend, Generic[File]):
    """Appends to files that contain each step once, even if the run was killed and resumed from a checkpoint.

    A checkpoint saves the sizes of the files, and a run that resumes from it truncates the files to these sizes. A
    subclass defines which files these are, how to open one, and how to append a record. Without a run directory,
    nothing is recorded.

    Attributes:
        pattern: Matches the files in the run directory: ``scalars.csv``, or with a star for several files.
        folder: The run directory, or None.
    """

    pattern: str
    needs_run_directory = True

    folder: Path | None = None
    _file: File | None = None
    _saved_sizes: Mapping[str, int] | None = None
    _sizes_before_validation: Mapping[str, int] | None = None

    @abstractmethod
    def open_file(self, folder: Path) -> File:
        """Opens the file to append to, or creates it.

        Args:
            folder: The run directory.

        Returns:
            The open file.
        """

    @abstractmethod
    def append(self, file: File, record: Record) -> None:
        """Appends a record, or ignores a kind of record that the file doesn't support.

        Args:
            file: The file that `open_file` returned.
            record: The record; `torchbase.logging_backends.records` lists the kinds.
        """

    @property
    def target(self) -> str:
        """What the backend writes, for messages."""
        return f"{self.pattern} in {self.folder}"

    def begin(self, run: Run) -> None:
        """Removes what will be recorded again. The file is created later, for the first record.

        Args:
            run: The run.
        """
        sizes, self._saved_sizes = self._saved_sizes, None
        if sizes is None and run.progress.iterations == 0:  # the run was killed before its first checkpoint
            sizes = {}
        if self.folder is not None and sizes is not None:
            truncate_files(self.folder, self.pattern, sizes)

    def open(self, run: Run) -> None:
        """Opens the file.

        Args:
            run: The run.
        """
        if self.folder is not None:
            self._file = self.open_file(self.folder)

    def write(self, record: Record) -> None:
        """Appends a record.

        Args:
            record: The record.
        """
        if self._file is not None:
            self.append(self._file, record)

    def flush(self) -> None:
        """Passes all records to the operating system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def abandon(self) -> None:
        """Closes the file and removes an incomplete record at its end."""
        if self._file is not None:
            self._file.abandon()
        self._file = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Starts the thread, which removes what will be recorded again."""
        self.folder = run.run_directory.path if run.run_directory is not None else None
        self._file = self._sizes_before_validation = None
        super().on_run_start(run)

    @hookimpl
    def on_phase_start(self, phase: Phase) -> None:
        """Stores the sizes of the files before a validation, which restarts if it is interrupted."""
        if not phase.is_training:
            self.do_in_thread(self._note_sizes)

    @hookimpl
    def on_phase_end(self) -> None:
        """Forgets these sizes: the validation is complete."""
        self.do_in_thread(self._forget_sizes)

    def state_dict(self) -> dict[str, Any]:
        """Waits until all records are with the operating system, and returns the sizes of the files.

        Returns:
            The sizes, without what an unfinished validation wrote, since that validation restarts.
        """
        super().state_dict()
        sizes = self._sizes_before_validation
        return {"sizes": dict(sizes if sizes is not None else self._sizes())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the sizes to which the files are truncated when the run starts.

        Args:
            state: What `state_dict` returned.
        """
        self._saved_sizes = dict(state["sizes"])

    def _sizes(self) -> dict[str, int]:
        return file_sizes(self.folder, self.pattern) if self.folder is not None else {}

    def _note_sizes(self) -> None:
        self.flush()
        self._sizes_before_validation = self._sizes()

    def _forget_sizes(self) -> None:
        self._sizes_before_validation = None
