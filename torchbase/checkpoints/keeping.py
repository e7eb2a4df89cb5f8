"""Which checkpoints of a run stay, and which are removed."""

import logging
from pathlib import Path

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.storage import check_checkpoint
from torchbase.errors import CheckpointError
from torchbase.files import durable

_logger = logging.getLogger("torchbase")


def keep_newest(folder: Path, count: int, whole: Path | None = None) -> None:
    """Removes all checkpoints except the most advanced ones.

    Counting starts at the first whole checkpoint, which is therefore never removed in favor of a damaged one.

    Args:
        folder: The folder of the run's checkpoints.
        count: The number of checkpoints to keep, at least 1.
        whole: A checkpoint that is known to be whole, since it was just written. It isn't read again.

    Raises:
        CheckpointError: If ``count`` is less than 1.
        RunDirectoryError: If the operating system reports an error.
    """
    if count < 1:
        raise CheckpointError(
            f"Can't keep the newest {count} checkpoints of {folder}. To fix, pass a count of at least 1."
        )
    paths = list_checkpoints(folder)
    if len(paths) <= count:  # checking the first checkpoint would read gigabytes for nothing
        return
    for position, path in enumerate(paths):
        try:
            if path != whole:
                check_checkpoint(path)
        except CheckpointError as error:
            _logger.warning(
                "The damaged checkpoint %s doesn't count among the checkpoints to keep: %s", path.name, error
            )
            continue
        for surplus in paths[position + count :]:
            durable.remove_durably(surplus)
        return
