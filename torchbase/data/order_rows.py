"""The rows of an epoch, as an order returns them: their types, and their checks."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from torchbase.errors import DataError, describe_returned

TO_FIX = (
    "To fix, return the rows as a tensor, an array or a list of integers; or the mini-batches as a list with the rows "
    "of each."
)


class RowsByMiniBatch(NamedTuple):
    """The mini-batches of an epoch as two arrays, which takes less memory than a list with the rows of each.

    Attributes:
        rows: The rows of all mini-batches, one mini-batch after the other. Integers of shape (rows,).
        sizes: The number of rows of each mini-batch. Integers of shape (mini-batches,).
    """

    rows: Any
    sizes: Any


def check_rows(returned: Any, number_of_rows: int, where: str) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Checks what an order returned for an epoch.

    Args:
        returned: Rows, or the rows of each mini-batch.
        number_of_rows: The number of samples in the dataset.
        where: The beginning of a message: which order, and which epoch.

    Returns:
        The rows, and the number of rows of each mini-batch. None in place of the numbers if only rows were returned.

    Raises:
        DataError: It has no rows, or something else than integers; a row isn't in the dataset; a mini-batch is empty.
    """
    if isinstance(returned, RowsByMiniBatch):
        rows, sizes = _integers(returned.rows, where, "rows"), _integers(returned.sizes, where, "sizes")
        if len(sizes) and (sizes.min() < 0 or sizes.sum() != len(rows)):
            raise DataError(
                f"{where} has {len(rows)} rows, but its mini-batches have {sizes.sum()} by their sizes, of which the "
                f"smallest is {sizes.min()}. To fix, return one size for each mini-batch, which add up to the rows."
            )
    elif _is_nested(returned, where):
        parts = [_integers(one, where, f"mini-batch {position + 1}") for position, one in enumerate(returned)]
        rows, sizes = np.concatenate(parts), np.array([len(one) for one in parts], dtype=np.int64)
    else:
        rows, sizes = _integers(returned, where, "rows"), None
    if len(rows) == 0:
        raise DataError(f"{where} has no rows. To fix, return at least one, or train for fewer epochs.")
    if sizes is not None and not sizes.all():
        raise DataError(
            f"{where} has an empty mini-batch, number {int(np.flatnonzero(sizes == 0)[0]) + 1} of {len(sizes)}. To "
            "fix, leave it out."
        )
    _check_range(rows, number_of_rows, where)
    return rows, sizes


def _is_nested(returned: Any, where: str) -> bool:
    if isinstance(returned, torch.Tensor | np.ndarray):
        if returned.ndim in (1, 2):
            return returned.ndim == 2
        raise DataError(f"{where} has the shape {tuple(returned.shape)}, not (rows,). {TO_FIX}")
    if isinstance(returned, Iterator):
        raise DataError(
            f"{where} is {describe_returned(returned)}, which may be endless. To fix, return a list: list(…); a method "
            "with yield collects its rows in a list, and returns it."
        )
    if not isinstance(returned, Sequence) or isinstance(returned, str | bytes):
        raise DataError(f"{where} is {describe_returned(returned)}. {TO_FIX}")
    return len(returned) > 0 and not isinstance(returned, range) and np.ndim(returned[0]) > 0


def _integers(values: Any, where: str, what: str) -> NDArray[np.int64]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} has {what} that aren't integers: {error}. {TO_FIX}") from error
    if array.size == 0 and array.ndim == 1:
        return np.zeros(0, dtype=np.int64)
    if array.dtype == np.bool_:
        raise DataError(
            f"{where} has {what} of type bool, which look like a mask. To fix, return the rows where it is True: "
            "numpy.flatnonzero(mask)."
        )
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(
            f"{where} has {what} of type {array.dtype} and shape {array.shape}, not integers of shape (rows,). {TO_FIX}"
        )
    return array.astype(np.int64, copy=False)


def _check_range(rows: NDArray[np.int64], number_of_rows: int, where: str) -> None:
    if rows.min() >= 0 and rows.max() < number_of_rows:
        return
    position = int(np.flatnonzero((rows < 0) | (rows >= number_of_rows))[0])
    raise DataError(
        f"{where} has row {int(rows[position])} at position {position}, but the rows of the dataset are from 0 to "
        f"{number_of_rows - 1}. To fix, return positions in the dataset that init_datasets returns, without the rows "
        "that it has filtered out."
    )
