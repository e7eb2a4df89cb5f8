"""Notes which files a process writes, and at which event of a hook."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import torch

from torchbase.distributed.board import is_file_of_board
from torchbase.testing.hook_frames import HookFrames

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
# By event of Python's audit, the position of the path in its arguments.
_CHANGES = {"os.remove": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "os.truncate": 0, "sqlite3.connect": 0}


class Write(NamedTuple):
    """A file that was written, moved or removed.

    Attributes:
        path: Its absolute path.
        event: The event of the hook; None outside of the hook, or in a thread of it.
    """

    path: str
    event: str | None


class WrittenFiles:
    """Notes the files that this process writes from now on, until it ends.

    What code that isn't Python opens by itself isn't noticed, except by ``torch.save``.
    """

    def __init__(self, frames: HookFrames) -> None:
        """Begins to note.

        Args:
            frames: Of the checked hook.
        """
        self._frames = frames
        self._writes: dict[Write, None] = {}  # a dictionary keeps their order
        sys.addaudithook(self._audit)
        vars(torch)["save"] = self._noting_path(torch.save)  # it writes without Python, so there is no audit

    @property
    def writes(self) -> tuple[Write, ...]:
        """The files, in the order of their first write."""
        return tuple(self._writes)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & _WRITES:
                self._note(path)
        elif event in _CHANGES:
            self._note(arguments[_CHANGES[event]])

    def _noting_path(self, save: Callable[..., None]) -> Callable[..., None]:
        @wraps(save)
        def noting(value: object, f: Any, *arguments: Any, **keyword_arguments: Any) -> None:
            self._note(f)
            save(value, f, *arguments, **keyword_arguments)

        return noting

    def _note(self, path: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):  # an open file
            return
        absolute = os.path.abspath(os.fsdecode(path))
        if absolute == os.devnull or is_file_of_board(absolute):
            return
        if not os.path.isdir(absolute):  # tempfile opens the folder of a file
            self._writes[Write(absolute, self._frames.current_event())] = None
