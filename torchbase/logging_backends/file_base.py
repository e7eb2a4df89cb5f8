"""The base of logging backends that append to files of the run directory, and go back to a checkpoint with the run."""

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
    """Appends to files, which hold each step once, also when the run was killed and goes on from a checkpoint.

    A checkpoint keeps how long the files are, and a run that goes on from it cuts them back to that. A subclass says
    which files these are, how to open one, and how to append a record. A run without a run directory is not recorded.

    Attributes:
        pattern: Names the files in the run directory: ``scalars.csv``, or with a star for several.
        folder: The run directory; None without one.
    """

    pattern: str
    needs_run_directory = True

    folder: Path | None = None
    _file: File | None = None
    _kept_sizes: Mapping[str, int] | None = None
    _sizes_before_validation: Mapping[str, int] | None = None

    @abstractmethod
    def open_file(self, folder: Path) -> File:
        """Opens the file to append to, and creates it where it is missing.

        Args:
            folder: The run directory.

        Returns:
            The open file.
        """

    @abstractmethod
    def append(self, file: File, record: Record) -> None:
        """Appends a record, or passes over a kind that the file doesn't keep.

        Args:
            file: What `open_file` gave.
            record: The record; `torchbase.logging_backends.records` has their kinds.
        """

    @property
    def target(self) -> str:
        """What it writes, for messages."""
        return f"{self.pattern} in {self.folder}"

    def begin(self, run: Run) -> None:
        """Takes away what is to be recorded again; the file is made when there is something to record.

        Args:
            run: The run.
        """
        sizes, self._kept_sizes = self._kept_sizes, None
        if sizes is None and run.progress.iterations == 0:  # a run that was killed before its first checkpoint
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
        """Hands everything to the operating system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def abandon(self) -> None:
        """Closes the file without the half of a record that may stand at its end."""
        if self._file is not None:
            self._file.abandon()
        self._file = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Begins the thread, and has it take away what is to be recorded again."""
        self.folder = run.run_directory.path if run.run_directory is not None else None
        self._file = self._sizes_before_validation = None
        super().on_run_start(run)

    @hookimpl
    def on_phase_start(self, phase: Phase) -> None:
        """Notes how long the files are before a validation, which begins again if it is broken off."""
        if not phase.is_training:
            self.do_in_thread(self._note_sizes)

    @hookimpl
    def on_phase_end(self) -> None:
        """Forgets that: the validation is done."""
        self.do_in_thread(self._forget_sizes)

    def state_dict(self) -> dict[str, Any]:
        """Waits until everything that was logged is with the operating system, and tells how long the files are.

        Returns:
            The sizes, without what was written in a validation that is to begin again.
        """
        super().state_dict()
        sizes = self._sizes_before_validation
        return {"sizes": dict(sizes if sizes is not None else self._sizes())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what the files are cut back to when the run starts.

        Args:
            state: What `state_dict` gave.
        """
        self._kept_sizes = dict(state["sizes"])

    def _sizes(self) -> dict[str, int]:
        return file_sizes(self.folder, self.pattern) if self.folder is not None else {}

    def _note_sizes(self) -> None:
        self.flush()
        self._sizes_before_validation = self._sizes()

    def _forget_sizes(self) -> None:
        self._sizes_before_validation = None
