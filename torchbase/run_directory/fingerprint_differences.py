"""Where two runs differ, by their fingerprints."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torchbase.run_directory.fingerprints import Place, StateHashes
from torchbase.run_directory.hashed_parts import different_names


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
    different = {one.place: names for one, other in pairs if (names := different_names(one.parts, other.parts))}
    only_first = _only_in_first(pairs)
    only_second = _only_in_first([(other, one) for one, other in pairs])
    parts = {part for one, other in pairs for part in one.parts if part in other.parts}
    return Sameness([one.place for one, _ in pairs], parts, different, only_first, only_second)


def part_of(name: str) -> str:
    """Returns the part to which a name belongs, such as ``network``.

    Args:
        name: The name of a value.
    """
    return name.partition(".")[0]


def _only_in_first(pairs: Iterable[tuple[StateHashes, StateHashes]]) -> list[str]:
    found: dict[str, None] = {}
    for first, second in pairs:
        for part, one in first.parts.items():
            other = second.parts[part].names if part in second.parts else ()
            if one.names != other:  # as a rule they are equal, and there are many
                found |= dict.fromkeys(f"{part}.{name}" for name in one.names if name not in {*other})
    return list(found)
