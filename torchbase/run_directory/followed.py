"""The run directory as the processes see it that don't write into it."""

import time
from pathlib import Path

from torchbase.errors import RunDirectoryError
from torchbase.run_directory.directory import RunDirectory

SECONDS_UNTIL_VISIBLE = 10.0  # a network file system may show a new folder late
_SECONDS_BETWEEN_LOOKS = 0.1


class FollowedRunDirectory(RunDirectory):
    """The directory of a run that the main process has made or opened. It is never locked or removed from here."""

    def __init__(self, path: Path) -> None:
        """Refers to the directory.

        Args:
            path: The path that the main process uses.
        """
        super().__init__(path, is_new=False)

    def lock(self) -> None:
        """Does nothing: the main process has locked the directory."""

    def unlock(self) -> None:
        """Does nothing: the main process unlocks the directory."""

    def make_again(self) -> None:
        """Waits until the directory is there that the main process has made again.

        Raises:
            RunDirectoryError: If this process doesn't see it.
        """
        if not self.is_visible():
            raise RunDirectoryError(
                f"The main process has made the run directory {self.path} again, and this process doesn't see it after "
                f"{SECONDS_UNTIL_VISIBLE:g} seconds. To fix, use a file system that all machines share."
            )

    def is_visible(self) -> bool:
        """Whether this process can see the directory. It waits for some seconds until it can."""
        deadline = time.monotonic() + SECONDS_UNTIL_VISIBLE
        while not self.path.is_dir():
            if time.monotonic() > deadline:
                return False
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return True
