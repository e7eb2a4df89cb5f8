"""Hashes of the values of a state, part by part, as JSON lines have them: names are written only when they change."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BYTES_OF_EACH = 4


@dataclass(frozen=True)
class PartOfState:
    """The hashes of one part of a state, such as the network.

    Attributes:
        bits: The hash of the whole part, in hexadecimal digits.
        names: The names of its values.
        each: The beginnings of their hashes in this order, one after another.
    """

    bits: str
    names: Sequence[str]
    each: bytes

    def by_name(self) -> dict[str, bytes]:
        """Returns the beginning of the hash of each value by its name."""
        starts = range(0, len(self.each), BYTES_OF_EACH)
        return {name: self.each[at : at + BYTES_OF_EACH] for name, at in zip(self.names, starts, strict=True)}


Parts = Mapping[str, PartOfState]


class PartsInLines:
    """Converts the parts of consecutive lines."""

    def __init__(self) -> None:
        self._names: dict[str, Sequence[str]] = {}

    def note(self, parts: Parts) -> None:
        """Notes the names of a line that is there already.

        Args:
            parts: Its parts by name.
        """
        self._names |= {name: part.names for name, part in parts.items()}

    def to_json(self, parts: Parts) -> dict[str, Any]:
        """Returns what the next line has of its parts. Call `note` once it is written.

        Args:
            parts: The parts by name.
        """
        values = {name: {"bits": one.bits, "each": b64encode(one.each).decode()} for name, one in parts.items()}
        changed = {name: [*part.names] for name, part in parts.items() if [*part.names] != [*self._names.get(name, ())]}
        return {"parts": values, **({"names": changed} if changed else {})}

    def from_json(self, line: Mapping[str, Any]) -> dict[str, PartOfState]:
        """Reads the parts of the next line.

        Args:
            line: What was written.

        Raises:
            ValueError: If it is damaged. Other errors of the types of its values are raised, too.
        """
        self._names |= {str(part): tuple(map(str, names)) for part, names in line.get("names", {}).items()}
        return {name: self._part(name, str(one["bits"]), one["each"]) for name, one in line["parts"].items()}

    def _part(self, name: str, bits: str, each: str) -> PartOfState:
        packed, names = b64decode(each, validate=True), self._names.get(name, ())
        if len(packed) != BYTES_OF_EACH * len(names):
            raise ValueError(f"{len(packed)} bytes for {len(names)} names")
        return PartOfState(bits, names, packed)


def different_names(first: Parts, second: Parts) -> list[str]:
    """Returns the names of the values that two states have in common and that differ, part by part.

    Args:
        first: The parts of a state by name.
        second: Those of another state.

    Returns:
        Names such as ``network.2.weight``.
    """
    common = [part for part in first if part in second]
    return [name for part in common for name in _different_in(part, first[part], second[part])]


def describe_names(names: Sequence[str]) -> str:
    """Returns the first name and the number of the others, such as ``network.2.weight and 3 more``.

    Args:
        names: The names, at least one.
    """
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"


def _different_in(part: str, first: PartOfState, second: PartOfState) -> list[str]:
    if first.bits == second.bits:
        return []
    here, there = first.by_name(), second.by_name()
    names = [f"{part}.{name}" for name, each in here.items() if there.get(name, each) != each]
    # The beginnings of two hashes may agree by chance.
    return names if names or here.keys() != there.keys() else [part]
