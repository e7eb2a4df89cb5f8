"""Checkpoints that all processes of a sharded run write and read together, each the rows that it holds."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from torchbase.checkpoints import storage
from torchbase.checkpoints.listing import list_checkpoints, name_of
from torchbase.checkpoints.saved_tensors import Piece
from torchbase.checkpoints.shards import save_shard, shard_file
from torchbase.distributed.done_together import do_together
from torchbase.distributed.processes import Processes
from torchbase.errors import ProcessLostError, RunDirectoryError
from torchbase.files import durable
from torchbase.files.nested import Path

if TYPE_CHECKING:
    from torchbase.checkpoints.manifest import FileRecord, Manifest


@dataclass(frozen=True)
class Share:
    """What one process saves of the state of a run.

    Attributes:
        parts: The parts of the checkpoint, with None in the place of each sharded tensor. Those of the main process are
            written, since they are equal on all.
        pieces: The pieces of the sharded tensors that this process holds, by their path in the parts.
    """

    parts: Mapping[str, Any]
    pieces: Mapping[Path, Piece]


@dataclass(frozen=True)
class _Written:
    records: "dict[str, FileRecord]"
    tensors: str  # a checksum of the names and shapes of the tensors whose pieces were written


def write_together(processes: Processes, folder: FilePath, epoch: int, iteration: int, share: Share) -> FilePath:
    """Writes a checkpoint. It appears in the folder only after all files of all processes are on the disk.

    Each process writes its file, and sends the size and checksum. The main process writes the parts and, last, the
    manifest. After an error of any process, there is no checkpoint, and each process raises an error.

    Args:
        processes: The processes. All of them call this function.
        folder: The folder of the run's checkpoints.
        epoch: Number of completed epochs.
        iteration: Number of completed training iterations of the whole run.
        share: What this process saves.

    Returns:
        The folder of the checkpoint.

    Raises:
        RunDirectoryError: If a value can't be saved, if the processes hold different tensors, or if the operating
            system reports an error to one of the processes.
        ProcessError: If another process has ended, doesn't answer, or had another error.
    """
    from torchbase.checkpoints.manifest import FORMAT_VERSION_WITH_SHARDS, Manifest  # late: pydantic is slow to import

    path = folder / name_of(epoch, iteration)
    temporary = do_together(processes, partial(_begin, processes, path), "the begin of a checkpoint")[0]
    if temporary is None:
        return path
    try:
        write = partial(_write, processes, temporary, path, share)
        written = do_together(processes, write, "the files of a checkpoint")
        manifest = Manifest(
            format_version=FORMAT_VERSION_WITH_SHARDS,
            epoch=epoch,
            iteration=iteration,
            files={name: record for one in written for name, record in one.records.items()},
            shards=[shard_file(index, processes.count) for index in range(processes.count)],
        )
        end = partial(_end, processes, temporary, path, manifest, [one.tensors for one in written])
        do_together(processes, end, "the end of a checkpoint")
    except ProcessLostError:  # another process may still write; the next start of the run removes the files
        raise
    except BaseException:
        if processes.is_main:
            durable.remove_durably(temporary)
        raise
    return path


def newest_together(processes: Processes, folder: FilePath | None, is_opened: bool) -> storage.Checkpoint | None:
    """Reads the most advanced checkpoint that is whole, as all processes see it.

    They share out the files to check. A warning names each damaged checkpoint that is skipped.

    Args:
        processes: The processes. All of them call this function.
        folder: The folder of the run's checkpoints; only that of the main process counts. None if there is none.
        is_opened: Whether tensors are read later, see `torchbase.checkpoints.storage.open_checkpoint`.

    Returns:
        The checkpoint, the same on each process; None if there is none.

    Raises:
        CheckpointError: If there are checkpoints, and all of them are damaged.
        ProcessError: If another process has ended or doesn't answer.
    """
    purpose = "the checkpoint to resume from"

    def read(path: FilePath) -> storage.Checkpoint:
        check = partial(storage.check_checkpoint, path, processes.index, processes.count)
        do_together(processes, check, purpose)
        here: list[storage.Checkpoint] = []
        open_one = storage.open_checked if is_opened else storage.read_checked
        do_together(processes, lambda: here.append(open_one(path)), purpose)
        return here[0]

    def find() -> tuple[FilePath, list[FilePath]] | None:
        return (folder, list_checkpoints(folder)) if folder is not None and processes.is_main else None

    found = do_together(processes, find, purpose)[0]
    return None if found is None else storage.first_whole(*found, read)


def _begin(processes: Processes, path: FilePath) -> FilePath | None:
    """Returns the temporary folder; None if a whole checkpoint is there."""
    if not processes.is_main:
        return None
    durable.make_folder(path.parent)
    return None if storage.has_whole(path) else durable.make_temporary_folder(path)


def _write(processes: Processes, temporary: FilePath, path: FilePath, share: Share) -> _Written:
    from torchbase.checkpoints.manifest import record_of

    name = shard_file(processes.index, processes.count)
    with durable.os_errors_explained("write", path):
        new_file = partial(_new_file, temporary)
        records = storage.write_parts(new_file, share.parts, path) if processes.is_main else {}
        with new_file(name) as file:
            save_shard(file, share.pieces, path / name)
            records[name] = record_of(file)
    facts = sorted(f"{key} {one.shape} {one.rows.dtype}" for key, one in share.pieces.items())
    return _Written(records, hashlib.sha256("\n".join(facts).encode()).hexdigest())


def _new_file(folder: FilePath, name: str) -> Any:
    return durable.new_file(folder / name)


def _end(processes: Processes, temporary: FilePath, path: FilePath, manifest: "Manifest", tensors: list[str]) -> None:
    from torchbase.checkpoints.manifest import MANIFEST_FILE

    others = [index for index, one in enumerate(tensors) if one != tensors[0]]
    if others:
        raise RunDirectoryError(
            f"can't write {path}: process {others[0]} holds rows of other tensors than process 0, in a hook or in the "
            "optimizer. To fix, make the same tensors on each process, and shard them alike."
        )
    if not processes.is_main:
        return
    with durable.os_errors_explained("write", path):
        with durable.new_file(temporary / MANIFEST_FILE) as file:
            file.write(manifest.to_bytes())
        durable.put_in_place(temporary, path)
