"""Where two runs differ, by their fingerprints."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torchbase.run_directory.fingerprints import PartOfState, Place, StateHashes


@dataclass(frozen=True)
class Sameness:
    """How far two runs are the same.

    Attributes:
        common: The places at which both have fingerprints, in order.
        parts: The parts of the state that both have.
        different: The names of the values that differ, such as ``network.2.weight``, by place. Places without a
            difference are left out.
        only_first: The names that only the first run has, at any common place.
        only_second: The names that only the second run has.
    """

    common: Sequence[Place]
    parts: Collection[str] = ()
    different: Mapping[Place, Sequence[str]] = field(default_factory=dict)
    only_first: Sequence[str] = ()
    only_second: Sequence[str] = ()

    @property
    def first_different(self) -> Place | None:
        """The first place with a difference; None if there is none."""
        return next(iter(self.different), None)

    @property
    def last_same(self) -> Place | None:
        """The last place before the first difference; None if the runs differ at the first one."""
        end = len(self.common) if self.first_different is None else self.common.index(self.first_different)
        return self.common[end - 1] if end else None

    def first_of_parts(self) -> dict[str, Place]:
        """Returns the first place at which each part of the state differs, by part. Parts without one are left out."""
        first: dict[str, Place] = {}
        for place, names in self.different.items():
            for name in names:
                first.setdefault(part_of(name), place)
        return first


def compare_fingerprints(first: Iterable[StateHashes], second: Iterable[StateHashes]) -> Sameness:
    """Compares the fingerprints of two runs at the places that they have in common.

    Args:
        first: The fingerprints of a run.
        second: Those of another run.

    Returns:
        Where they differ. Values that only one of the runs has are no difference.
    """
    others = {one.place: one for one in second}
    pairs = [(one, others[one.place]) for one in first if one.place in others]
    different = {one.place: names for one, other in pairs if (names := different_names(one, other))}
    only_first = _only_in_first(pairs)
    only_second = _only_in_first([(other, one) for one, other in pairs])
    parts = {part for one, other in pairs for part in one.parts if part in other.parts}
    return Sameness([one.place for one, _ in pairs], parts, different, only_first, only_second)


def different_names(first: StateHashes, second: StateHashes) -> list[str]:
    """Returns the names of the values that two states have in common and that differ, part by part.

    Args:
        first: A state.
        second: Another state.
    """
    if first.bits == second.bits:
        return []
    common = [part for part in first.parts if part in second.parts]
    return [name for part in common for name in _different_in(part, first.parts[part], second.parts[part])]


def part_of(name: str) -> str:
    """Returns the part to which a name belongs, such as ``network``.

    Args:
        name: The name of a value.
    """
    return name.partition(".")[0]


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


def _only_in_first(pairs: Iterable[tuple[StateHashes, StateHashes]]) -> list[str]:
    found: dict[str, None] = {}
    for first, second in pairs:
        for part, one in first.parts.items():
            other = second.parts[part].names if part in second.parts else ()
            if one.names != other:  # as a rule they are equal, and there are many
                found |= dict.fromkeys(f"{part}.{name}" for name in one.names if name not in {*other})
    return list(found)
