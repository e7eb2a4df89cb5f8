"""Splits an iterable, or several iterables of equal length jointly, into parts."""

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


# The overloads overlap, since a Mapping is also an Iterable of its keys; the first match applies.
@overload
def split_iterables(  # type: ignore[overload-overlap]
    input_: Mapping[Key, Iterable[Any]], portions: Portions, shuffle: bool = True
) -> tuple[dict[Key, list[Any]], ...]: ...


@overload
def split_iterables(input_: Iterable[Item], portions: Portions, shuffle: bool = True) -> tuple[list[Item], ...]: ...


def split_iterables(
    input_: Mapping[Any, Iterable[Any]] | Iterable[Any], portions: Portions, shuffle: bool = True
) -> tuple[Any, ...]:
    """Splits an iterable, or a dictionary of iterables, into one part per portion.

    Each item is in exactly one part. The sizes are computed with the largest remainder method: the size of a part is
    its share of the ``n`` items, rounded down. The remaining items are assigned to the parts with the largest
    remainders, one item per part; of equal remainders, the later part comes first. So the sizes sum to ``n``, and each
    differs from its exact share by less than 1: 10 items and ``(0.7, 0.15, 0.15)`` have the sizes 7, 1 and 2.

    Shuffling draws one permutation with ``torch.randperm`` from torch's global CPU generator. So ``torch.manual_seed``,
    or the seed of a run, makes the split reproducible, if the items have the same order each time. The order of a
    ``set`` can change between processes.

    Args:
        input_: The items: any iterable (list, generator, tensor, array) except a string; or a dictionary of iterables
            of equal length, which are split with the same permutation. It is read once, completely. The items of an
            open file are its lines, without their line ends.
        portions: A positive number for each part, as a tuple or list. Either all are shares of the items, with a sum of
            1 (within 1e-6), or one is at least 1, and all are relative weights: ``(1, 4)`` equals ``(0.2, 0.8)``.
        shuffle: Whether to permute the items first. Otherwise the parts are consecutive, in the original order.

    Returns:
        A list for each portion; for a dictionary, a dictionary of lists with the same keys for each portion.

    Raises:
        DataError: The portions are not valid, the iterables of a dictionary differ in length, the dictionary has no
            keys, or a part would be empty.
        TypeError: ``input_``, or a value of the dictionary, is a string or not iterable.
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
    """Shuffles and splits an iterable, or a dictionary of iterables, into training, validation and test parts.

    It calls ``split_iterables`` with three portions. Its documentation describes the sizes and the permutation.

    Args:
        input_: The items: any iterable except a string, or a dictionary of iterables of equal length; the lines of an
            open file.
        portions: The portions of the training, validation and test parts, as for ``split_iterables``.

    Returns:
        The training, validation and test parts, as three lists or three dictionaries of lists.

    Raises:
        DataError: There are not exactly three portions, or as for ``split_iterables``.
        TypeError: As for ``split_iterables``.
    """
    if isinstance(portions, tuple | list) and len(portions) != 3:
        raise DataError(
            f"portions has to contain 3 numbers, for the training, validation and test parts, but got "
            f"{len(portions)}: {portions!r}. To fix, pass 3 portions, or call split_iterables."
        )
    train, valid, test = split_iterables(input_, portions)
    return train, valid, test


def _exact_portions(portions: object) -> list[Fraction]:
    """Checks the portions and returns them as fractions that sum to exactly 1."""
    if not isinstance(portions, tuple | list):
        raise DataError(
            f"portions has to be a tuple or list of numbers, for example (0.8, 0.2), but got {type(portions).__name__}."
        )
    if not portions:
        raise DataError("portions is empty. To fix, pass a positive number for each part, for example (0.8, 0.2).")
    for position, portion in enumerate(portions):
        is_number = isinstance(portion, Real) and not isinstance(portion, bool)
        if not is_number or not 0 < portion < math.inf:
            raise DataError(
                f"portions[{position}] has to be a positive number, but got {portion!r} ({type(portion).__name__}). To "
                f"fix, remove the portions of empty parts."
            )
    total = math.fsum(portions)
    if max(portions) < 1 and abs(total - 1) > _SUM_TOLERANCE:
        raise DataError(
            f"portions below 1 are shares and have to sum to 1, but the sum of {portions!r} is {total:.9g}. To fix, "
            "divide each portion by the sum; or pass relative weights of at least 1, for example (4, 1)."
        )
    # From their decimal form, since binary rounding of numbers such as 0.7 would break ties by chance.
    fractions = [Fraction(repr(float(portion))) for portion in portions]
    exact_total = sum(fractions)
    return [fraction / exact_total for fraction in fractions]


def _read_columns(input_: Mapping[Any, Iterable[Any]]) -> dict[Any, list[Any]]:
    if not input_:
        raise DataError("input_ is a dictionary without keys. To fix, pass at least one iterable to split.")
    columns = {key: _read_items(column, f"input_[{key!r}]") for key, column in input_.items()}
    check_equal_lengths({key: len(column) for key, column in columns.items()}, "input_")
    return columns


def _read_items(iterable: Iterable[Any], where: str) -> list[Any]:
    check_iterable(iterable, where)
    if hasattr(iterable, "readline"):
        return [_without_line_end(line) for line in iterable]
    return list(iterable)


def _without_line_end(line: Any) -> Any:
    # A file that is opened in binary mode, or with newline="", leaves the line ends of Windows as they are.
    return line.rstrip(b"\r\n" if isinstance(line, bytes) else "\r\n")


def _split_indices(count: int, portions: list[Fraction], shuffle: bool) -> list[list[int]]:
    """Returns the indices of the items of each part."""
    sizes = _split_sizes(count, portions)
    # On the CPU explicitly: torch.set_default_device would otherwise use the generator of another device.
    order = torch.randperm(count, device="cpu").tolist() if shuffle else list(range(count))
    ends = [sum(sizes[: position + 1]) for position in range(len(sizes))]
    return [order[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _split_sizes(count: int, portions: list[Fraction]) -> list[int]:
    """Computes the size of each part with the largest remainder method."""
    shares = [count * portion for portion in portions]
    sizes = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda position: (shares[position] - sizes[position], position))
    for position in by_remainder[len(shares) - (count - sum(sizes)) :]:
        sizes[position] += 1
    if 0 in sizes:
        position = sizes.index(0)
        raise DataError(
            f"Part {position + 1} of {len(sizes)} would be empty: for {count} items and a portion of "
            f"{float(portions[position]):.6g}, the sizes are {sizes}. To fix, pass more items, a larger portion or "
            "fewer parts."
        )
    return sizes
