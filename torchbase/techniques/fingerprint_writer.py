"""Hashes the state of a run in a thread, and writes the hashes in the order of the checkpoints."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torchbase.checkpoints.distributed_tensors import distributed_parameter
from torchbase.engine.run import Run
from torchbase.files.background_writes import BackgroundWrites
from torchbase.files.host_copies import HostCopies
from torchbase.run_directory.fingerprints import After, FingerprintFile, StateHashes
from torchbase.run_directory.hashed_parts import PartOfState, describe_names, different_names
from torchbase.techniques.state_hashes import hash_of_parts, hash_parts, values_of, whole_on_host

logger = logging.getLogger("torchbase")

WRITE_NAME = "fingerprint"
# The streams of the program before the first iteration, and after what a run does at its end, affect no iteration.
WITH_STREAMS = frozenset({"iteration", "epoch"})


class FingerprintWriter:
    """Writes the fingerprints of one run. With a sharded network, each process has one, and the main process writes.

    A line is among the background writes of the run directory, so no checkpoint is on the disk without the lines before
    it. Lines that the disk refused are written with the next one.

    Attributes:
        last: The last fingerprint that was written; None if there is none.
    """

    def __init__(self, run: Run, folder: Path | None = None) -> None:
        """Removes the fingerprints that a resumed run records again.

        Args:
            run: The run, restored.
            folder: The folder of the file; by default the run directory.

        Raises:
            RunDirectoryError: If the operating system reports an error.
        """
        directory = run.run_directory
        done = run.progress.iterations, run.epochs_done
        self._is_sharded = distributed_parameter(run.optimizer) is not None
        self._file = None if directory is None else FingerprintFile(folder or directory.path, done, run.is_finished)
        self._writes = BackgroundWrites() if directory is None else directory.writes
        self._copies, self._hashing = HostCopies(), BackgroundWrites()
        self._unwritten: deque[StateHashes] = deque()
        self._unhashable: set[str] = set()
        self._has_warned_of_repetition = False
        self.last: StateHashes | None = None

    def record(self, run: Run, after: After) -> None:
        """Records the state, unless the place has a fingerprint. All processes of a sharded run have to call it.

        Args:
            run: The run, between two iterations.
            after: What has just happened.

        Raises:
            BaseException: The error of an earlier write.
        """
        has_streams = after in WITH_STREAMS
        make = partial(self._make, run.progress.iterations, run.epochs_done, after)
        if self._is_sharded:  # a copy of all of it may not fit the memory of this process
            hashes = hash_parts(values_of(run, has_streams), self._note_unhashable, whole_on_host)
            make(lambda: hashes)
        elif self._file is None or (run.progress.iterations, after) in self._file.places:
            return
        else:
            self._hashing.wait(WRITE_NAME)  # the copies that are being hashed are overwritten below
            values = self._copies.of(values_of(run, has_streams))
            self._hashing.submit(WRITE_NAME, partial(make, partial(hash_parts, values, self._note_unhashable)))
        if self._file is not None:
            self._writes.submit(WRITE_NAME, partial(self._write, self._file, self._hashing.until_now()))

    def join(self) -> None:
        """Waits until no thread hashes or writes a fingerprint. A later call raises their errors."""
        self._hashing.join()
        self._writes.join(WRITE_NAME)

    def finish(self) -> None:
        """Waits until all fingerprints are on the disk, and raises errors of the disk."""
        self._writes.finish()

    # The methods below run in threads; those of a sharded run hash in that of the training.

    def _make(
        self, iteration: int, epochs_done: int, after: After, hash_all: Callable[[], Mapping[str, PartOfState]]
    ) -> None:
        parts = hash_all()
        if self._file is not None:
            self._unwritten.append(StateHashes(iteration, epochs_done, after, hash_of_parts(parts), parts))

    def _write(self, file: FingerprintFile, wait_for_hashes: Callable[[], None]) -> None:
        wait_for_hashes()
        while self._unwritten:
            hashes = self._unwritten[0]
            file.append(hashes)
            self._unwritten.popleft()
            self.last = hashes
            before = file.removed.pop(hashes.place, None)
            if before is not None and not self._has_warned_of_repetition:
                self._warn_of_repetition(before, hashes)

    def _warn_of_repetition(self, before: StateHashes, now: StateHashes) -> None:
        names = different_names(before.parts, now.parts)
        if names:
            self._has_warned_of_repetition = True
            logger.warning(
                "Iteration %s ran again after the run was resumed, and has other bits than before: %s. If nothing was "
                "changed on purpose, something isn't restored or seeded, or the machine is another one.",
                f"{now.iteration:,}",
                describe_names(names),
            )

    def _note_unhashable(self, name: str, value: object) -> None:
        if self._file is not None and name not in self._unhashable:
            self._unhashable.add(name)
            logger.warning(
                "%s isn't part of the fingerprints, since a value of type %s can't be hashed. To fix, return tensors "
                "and plain values in state_dict.",
                name,
                type(value).__qualname__,
            )
