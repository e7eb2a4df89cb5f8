"""Splits an iterable, or several of equal length jointly, into parts of given portions."""

import math
from collections.abc import Hashable, Iterable, Mapping
from fractions import Fraction
from numbers import Real
from typing import Any, TypeVar, overload

import torch

from torchbase.data.typed_dict import check_equal_lengths, check_iterable
from torchbase.errors import DataError

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Portions = tuple[float, ...] | list[float]

_SUM_TOLERANCE = 1e-6


# A Mapping is an Iterable (of its keys) too, so the overloads overlap; the first that fits is the one meant.
@overload
def split_iterables(  # type: ignore[overload-overlap]
    input_: Mapping[Key, Iterable[Any]], portions: Portions, shuffle: bool = True
) -> tuple[dict[Key, list[Any]], ...]: ...


@overload
def split_iterables(input_: Iterable[Item], portions: Portions, shuffle: bool = True) -> tuple[list[Item], ...]: ...


def split_iterables(
    input_: Mapping[Any, Iterable[Any]] | Iterable[Any], portions: Portions, shuffle: bool = True
) -> tuple[Any, ...]:
    """Split an iterable, or a dictionary of iterables, into one part for each portion.

    Every item lands in exactly one part. The sizes are found by largest remainder: each part first gets the
    whole number below ``portion * n``, and the items left over go one each to the parts with the largest
    fractions cut off (an earlier part before a later one if these are equal). So the sizes sum to ``n``, and each
    is less than 1 away from ``portion * n``.

    Shuffling draws one permutation with ``torch.randperm`` from torch's global CPU stream, so ``torch.manual_seed``
    (the seed of a run) decides the split. The items have to come in the same order each time for that: those of a
    set don't, from one process to the next.

    Args:
        input_: The items: any iterable (list, generator, tensor, array) but a string, or a dictionary of iterables
            of equal length, which are split jointly: the same permutation in every key. It is read once, to its end.
        portions: One positive number for each part, as a tuple or list; they sum to 1 (within 1e-6).
        shuffle: Whether to permute the items first. Without it, the parts are consecutive and keep the order.

    Returns:
        One list for each portion; or, for a dictionary, one dictionary of lists with the same keys for each.

    Raises:
        DataError: The portions are wrong, the iterables of a dictionary differ in length, the dictionary has no
            keys, or there are too few items for every part to get one.
        TypeError: ``input_``, or a value of the dictionary, is a string or can't be iterated over.
    """
    exact_portions = _exact_portions(portions)
    if isinstance(input_, Mapping):
        columns = _read_columns(input_)
        index_lists = _split_indices(len(next(iter(columns.values()))), exact_portions, shuffle)
        return tuple(
            {key: [column[index] for index in indices] for key, column in columns.items()} for indices in index_lists
        )
    items = _read_items(input_, "input_")
    index_lists = _split_indices(len(items), exact_portions, shuffle)
    return tuple([items[index] for index in indices] for indices in index_lists)


@overload
def split_to_train_valid_test(  # type: ignore[overload-overlap]
    input_: Mapping[Key, Iterable[Any]], portions: Portions = (0.7, 0.15, 0.15)
) -> tuple[dict[Key, list[Any]], dict[Key, list[Any]], dict[Key, list[Any]]]: ...


@overload
def split_to_train_valid_test(
    input_: Iterable[Item], portions: Portions = (0.7, 0.15, 0.15)
) -> tuple[list[Item], list[Item], list[Item]]: ...


def split_to_train_valid_test(
    input_: Mapping[Any, Iterable[Any]] | Iterable[Any], portions: Portions = (0.7, 0.15, 0.15)
) -> tuple[Any, Any, Any]:
    """Shuffle and split an iterable, or a dictionary of iterables, into training, validation and test parts.

    It is ``split_iterables`` with exactly three portions: see there for how sizes are rounded and that torch's
    global CPU stream decides the permutation.

    Args:
        input_: The items: any iterable but a string, or a dictionary of iterables of equal length.
        portions: The portions of the training, validation and test parts; positive, summing to 1 (within 1e-6).

    Returns:
        The training, validation and test parts, as three lists or three dictionaries of lists.

    Raises:
        DataError: There aren't exactly three portions, or as for ``split_iterables``.
        TypeError: As for ``split_iterables``.
    """
    if isinstance(portions, tuple | list) and len(portions) != 3:
        raise DataError(
            f"portions has {len(portions)} numbers: {portions!r}. Give exactly 3, for the training, validation and "
            f"test parts; for another number of parts use split_iterables."
        )
    train, valid, test = split_iterables(input_, portions)
    return train, valid, test


def _exact_portions(portions: object) -> list[Fraction]:
    """The portions as exact fractions that sum to exactly 1, if they are what they have to be."""
    if not isinstance(portions, tuple | list):
        raise DataError(f"portions is a {type(portions).__name__}; give a tuple or list of numbers, as (0.8, 0.2).")
    if not portions:
        raise DataError("portions is empty; give one positive number for each part, as (0.8, 0.2).")
    for position, portion in enumerate(portions):
        is_number = isinstance(portion, Real) and not isinstance(portion, bool)
        if not is_number or not 0 < portion < math.inf:
            raise DataError(
                f"portions[{position}] is {portion!r} ({type(portion).__name__}); every portion has to be a positive "
                f"number. Leave out a part that is to be empty."
            )
    total = math.fsum(portions)
    if abs(total - 1) > _SUM_TOLERANCE:
        raise DataError(f"portions {portions!r} sum to {total:.9g}, not to 1. Divide each of them by their sum.")
    # As the decimals that were written: binary rounding of 0.7 or 0.1 would otherwise break ties by chance.
    fractions = [Fraction(repr(float(portion))) for portion in portions]
    exact_total = sum(fractions)
    return [fraction / exact_total for fraction in fractions]


def _read_columns(input_: Mapping[Any, Iterable[Any]]) -> dict[Any, list[Any]]:
    if not input_:
        raise DataError("input_ is a dictionary without keys, so there is nothing to split.")
    columns = {key: _read_items(column, f"input_[{key!r}]") for key, column in input_.items()}
    check_equal_lengths({key: len(column) for key, column in columns.items()}, "input_")
    return columns


def _read_items(iterable: Iterable[Any], where: str) -> list[Any]:
    check_iterable(iterable, where)
    return list(iterable)


def _split_indices(count: int, portions: list[Fraction], shuffle: bool) -> list[list[int]]:
    """The indices of each part's items."""
    sizes = _split_sizes(count, portions)
    # On the CPU by name: torch.set_default_device would otherwise move the draw to another device's stream.
    order = torch.randperm(count, device="cpu").tolist() if shuffle else list(range(count))
    ends = [sum(sizes[: position + 1]) for position in range(len(sizes))]
    return [order[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _split_sizes(count: int, portions: list[Fraction]) -> list[int]:
    """The size of each part, by largest remainder."""
    shares = [count * portion for portion in portions]
    sizes = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda position: sizes[position] - shares[position])
    for position in by_remainder[: count - sum(sizes)]:
        sizes[position] += 1
    if 0 in sizes:
        position = sizes.index(0)
        raise DataError(
            f"Part {position + 1} of {len(sizes)} would be empty: its portion is {float(portions[position]):.6g} and "
            f"there are {count} items, which makes sizes {sizes}. Give more items, a larger portion, or fewer parts."
        )
    return sizes
