"""The fingerprints of a run: hashes of its state after some iterations, in a file that can be read without torch.

``fingerprints.jsonl`` has a line for each::

    {"iteration": 100, "epochs_done": 1, "after": "iteration", "bits": "5f0c…",
     "parts": {"network": {"bits": "a41e…", "each": "mZqC…"}, "optimizer": …},
     "names": {"network": ["0.weight", "0.bias"], "optimizer": …}}

``bits`` has all 128 bits of a hash. ``each`` has the first 32 bits of the hash of each tensor, in the order of the
names. A line has the names of a part if they aren't those of the line before. Two runs with equal states have equal
files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torchbase.files.durable import os_errors_explained
from torchbase.files.json_lines import append_line, truncate_lines
from torchbase.run_directory.hashed_parts import PartOfState, PartsInLines

FINGERPRINTS_FILE = "fingerprints.jsonl"
PARTS = ("network", "optimizer", "random")

After = Literal["start", "iteration", "epoch", "run"]
Place = tuple[int, After]


@dataclass(frozen=True)
class StateHashes:
    """The hashes of the state of a run at one place.

    Attributes:
        iteration: Number of completed training iterations of the whole run.
        epochs_done: Number of completed epochs.
        after: What has just happened: the start of the run, an iteration, an epoch with its validation, or the run.
        bits: The hash of the whole state, in hexadecimal digits.
        parts: The parts by name.
    """

    iteration: int
    epochs_done: int
    after: After
    bits: str
    parts: Mapping[str, PartOfState]

    @property
    def place(self) -> Place:
        """Where in the run the state was hashed. Two runs are compared at equal places."""
        return self.iteration, self.after


class FingerprintFile:
    """The file of fingerprints, while a run appends to it.

    Attributes:
        places: The places of the fingerprints in the file.
        removed: The fingerprints that a resumed run records again, by place.
    """

    def __init__(self, folder: Path, done: tuple[int, int], has_ended: bool) -> None:
        """Removes the lines that the resumed run writes again.

        Args:
            folder: The run directory.
            done: Number of completed iterations, and of completed epochs.
            has_ended: Whether nothing is left to train, so that the line of the end of the run stays.

        Raises:
            RunDirectoryError: If the operating system reports an error.
        """
        self._path = folder / FINGERPRINTS_FILE
        self._in_lines = PartsInLines()
        before, _ = _read(self._path)
        stays = [_stays(one, *done, has_ended) for _, one in before]
        count = stays.index(False) if False in stays else len(stays)
        self.removed = {one.place: one for _, one in before[count:] if one.after != "run"}
        self.places = {one.place for _, one in before[:count]}
        for _, one in before[:count]:
            self._in_lines.note(one.parts)
        truncate_lines(self._path, before[count - 1][0] if count else 0)

    def append(self, hashes: StateHashes) -> None:
        """Appends a fingerprint, unless the place has one.

        Args:
            hashes: The fingerprint.

        Raises:
            RunDirectoryError: If the operating system reports an error. The file then ends as before.
        """
        if hashes.place in self.places:
            return
        place = {name: value for name, value in vars(hashes).items() if name != "parts"}
        append_line(self._path, place | self._in_lines.to_json(hashes.parts))
        self._in_lines.note(hashes.parts)
        self.places.add(hashes.place)


def read_fingerprints(folder: Path) -> tuple[list[StateHashes], int]:
    """Reads the fingerprints of a run, which may still be training.

    Args:
        folder: The run directory.

    Returns:
        The fingerprints in the order in which they were written, and the number of damaged lines.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    found, damaged = _read(folder / FINGERPRINTS_FILE)
    return [one for _, one in found], damaged


def _read(path: Path) -> tuple[list[tuple[int, StateHashes]], int]:
    """Returns each fingerprint with the number of lines until it, and the number of damaged lines."""
    with os_errors_explained("read", path):
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    found: list[tuple[int, StateHashes]] = []
    in_lines, damaged = PartsInLines(), 0
    for number, line in enumerate((one for one in lines if one.endswith(b"\n")), start=1):
        try:
            found.append((number, _from_json(json.loads(line), in_lines)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            damaged += 1
    return found, damaged


def _stays(hashes: StateHashes, iterations: int, epochs_done: int, has_ended: bool) -> bool:
    is_until = 0 < iterations >= hashes.iteration and hashes.epochs_done <= epochs_done
    return is_until and (has_ended or hashes.after != "run")


def _from_json(value: Mapping[str, Any], in_lines: PartsInLines) -> StateHashes:
    parts = in_lines.from_json(value)
    if value["after"] not in get_args(After):
        raise ValueError(value["after"])
    return StateHashes(int(value["iteration"]), int(value["epochs_done"]), value["after"], str(value["bits"]), parts)
