"""Orders that are ready to use: weighted rows, some samples of some classes, rows of similar length."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from torchbase.data.order_rows import RowsByMiniBatch
from torchbase.errors import DataError


class WeightedOrder:
    """Draws rows with replacement, each with a probability that is proportional to its weight.

    In an epoch, a row of a high weight is read several times, and others aren't read. Rows of weight 0 never are. It
    needs 8 bytes per row of the dataset, and 16 per drawn row while an epoch is drawn.

    Example:
        ::

            def init_order(self):
                return WeightedOrder(self.dataset_train["weight"])
    """

    def __init__(self, weights: Any, rows_per_epoch: int | None = None) -> None:
        """Sets the weights.

        Args:
            weights: A column, a tensor or an array with a weight for each row of the training set, shape (rows,).
            rows_per_epoch: The number of rows in an epoch; None for the number of weights.

        Raises:
            DataError: A weight is negative or not finite, all are 0, or ``rows_per_epoch`` isn't at least 1.
        """
        numbers = _numbers(weights, "weights", "WeightedOrder").astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(numbers) | (numbers < 0))
        if len(wrong):
            raise DataError(
                f"WeightedOrder needs finite weights of at least 0, but row {int(wrong[0])} has "
                f"{float(numbers[wrong[0]])}, and {len(wrong)} rows have such weights. To fix, correct them."
            )
        self._sums = numbers.cumsum()
        if not self._sums[-1] > 0:
            raise DataError("WeightedOrder needs a weight greater than 0, but all are 0. To fix, correct them.")
        self.number_of_rows = len(numbers)
        self._rows_per_epoch = len(numbers) if rows_per_epoch is None else rows_per_epoch
        _check_count(self._rows_per_epoch, "rows_per_epoch", "WeightedOrder")
        self._last = int(np.flatnonzero(numbers)[-1])

    @classmethod
    def balancing(cls, labels: Any, rows_per_epoch: int | None = None) -> Self:
        """Returns an order in which each class is as frequent as the others, on average.

        Args:
            labels: A column, a tensor or an array with the class of each row of the training set, shape (rows,).
            rows_per_epoch: The number of rows in an epoch; None for the number of labels.
        """
        classes, counts = _classes(labels, "WeightedOrder")
        return cls(1.0 / counts[classes], rows_per_epoch)

    def __call__(self, epoch: int, generator: torch.Generator) -> NDArray[np.int64]:
        """Draws the rows of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            generator: The generator to draw from.

        Returns:
            Shape (rows per epoch,).
        """
        drawn = torch.rand(self._rows_per_epoch, generator=generator, dtype=torch.float64, device="cpu").numpy()
        drawn *= self._sums[-1]
        # Rounding can reach the sum of all, which is after the last row.
        return np.minimum(self._sums.searchsorted(drawn, side="right"), self._last)


class ClassesOrder:
    """Makes mini-batches of K samples of each of P classes, for losses that compare samples, such as triplet losses.

    The classes of a mini-batch are drawn with equal probability, whatever their size. The samples of a class take
    turns: none is read again before all others of its class were, except the up to K - 1 samples that remain. A class
    with fewer than K samples has some of them several times in a mini-batch. An epoch has as many samples as the
    training set, without a rest: some rows are read several times, and others not at all.

    Example:
        ::

            def init_order(self):
                labels = self.dataset_train["label"]
                return ClassesOrder(labels, classes=8, samples=4)
    """

    def __init__(self, labels: Any, classes: int, samples: int) -> None:
        """Sorts the rows by their classes.

        Args:
            labels: A column, a tensor or an array with the class of each row of the training set, shape (rows,):
                integers or strings.
            classes: P, the number of classes in a mini-batch.
            samples: K, the number of samples of each of these classes.

        Raises:
            DataError: There are fewer than P classes, or P or K isn't at least 1.
        """
        _check_count(classes, "classes", "ClassesOrder")
        _check_count(samples, "samples", "ClassesOrder")
        class_of_row, counts = _classes(labels, "ClassesOrder")
        if len(counts) < classes:
            raise DataError(
                f"ClassesOrder can't make mini-batches of {classes} classes, since the labels have only {len(counts)}. "
                "To fix, lower classes, or pass another column."
            )
        self.number_of_rows = len(class_of_row)
        self._rows = np.argsort(class_of_row, kind="stable")
        self._ends = counts.cumsum()
        self._classes, self._samples = classes, samples

    def __call__(self, epoch: int, generator: torch.Generator) -> NDArray[np.int64]:
        """Draws the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            generator: The generator to draw from.

        Returns:
            The rows of each mini-batch, shape (mini-batches, P times K), the samples of a class one after the other.
        """
        drawing = np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device="cpu")))
        mini_batches = max(1, self.number_of_rows // (self._classes * self._samples))
        chosen = np.stack(
            [drawing.choice(len(self._ends), self._classes, replace=False) for _ in range(mini_batches)]
        ).reshape(-1)
        drawn = np.empty((len(chosen), self._samples), dtype=np.int64)
        places = np.argsort(chosen, kind="stable")  # where each class occurs
        numbers, begins = np.unique(chosen[places], return_index=True)
        for number, where in zip(numbers.tolist(), np.split(places, begins[1:]), strict=True):
            drawn[where] = self._draw_of_class(number, len(where), drawing)
        return drawn.reshape(mini_batches, -1)

    def _draw_of_class(self, number: int, times: int, drawing: np.random.Generator) -> NDArray[np.int64]:
        begin = int(self._ends[number - 1]) if number else 0
        rows = self._rows[begin : self._ends[number]]
        together = max(1, len(rows) // self._samples)  # of one permutation, without a row that occurs twice
        turns = []
        for _ in range(-(-times // together)):
            turns.append(np.resize(drawing.permutation(rows), (together, self._samples)))
        return np.concatenate(turns)[:times]


class LengthOrder:
    """Makes mini-batches of rows of similar length, so that little has to be padded. Each row is read once per epoch.

    In each epoch, the rows are shuffled. Of the rows of 100 mini-batches at a time, those of similar length become a
    mini-batch. Then the mini-batches are shuffled, too. It needs 8 bytes per row, and 40 while an epoch is drawn.

    Example:
        ::

            def init_order(self):
                lengths = self.dataset_train["length"]
                return LengthOrder(lengths, self.config_session.mini_batch_size)
    """

    MINI_BATCHES_SORTED_TOGETHER = 100

    def __init__(self, lengths: Any, mini_batch_size: int, *, drop_last: bool = False) -> None:
        """Sets the lengths.

        Args:
            lengths: A column, a tensor or an array with the length of each row of the training set, shape (rows,).
            mini_batch_size: The number of rows in a mini-batch. One mini-batch of an epoch can be smaller.
            drop_last: Whether to leave out the smaller one. Its rows differ from epoch to epoch.

        Raises:
            DataError: A length isn't a number, ``mini_batch_size`` isn't at least 1, or no mini-batch is left.
        """
        _check_count(mini_batch_size, "mini_batch_size", "LengthOrder")
        self._lengths = _numbers(lengths, "lengths", "LengthOrder")
        self.number_of_rows = len(self._lengths)
        self._size, self._drop_last = mini_batch_size, drop_last
        if drop_last and self.number_of_rows < mini_batch_size:
            raise DataError(
                f"LengthOrder has {self.number_of_rows} rows, fewer than a mini-batch of {mini_batch_size}, and "
                "drop_last leaves them out. To fix, lower mini_batch_size."
            )

    def __call__(self, epoch: int, generator: torch.Generator) -> RowsByMiniBatch:
        """Draws the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            generator: The generator to draw from.

        Returns:
            The rows and sizes of the mini-batches.
        """
        size, rows = self._size, torch.randperm(self.number_of_rows, generator=generator, device="cpu").numpy()
        together = size * self.MINI_BATCHES_SORTED_TOGETHER
        for begin in range(0, len(rows), together):
            some = rows[begin : begin + together]
            some[:] = some[np.argsort(self._lengths[some], kind="stable")]
        whole, remainder = divmod(len(rows), size)
        order = torch.randperm(whole, generator=generator, device="cpu").numpy()
        shuffled = rows[: whole * size].reshape(whole, size)[order].reshape(-1)
        sizes = np.full(whole, size, dtype=np.int64)
        if remainder and not self._drop_last:  # the longest of the last ones, and read last
            shuffled, sizes = np.concatenate([shuffled, rows[whole * size :]]), np.append(sizes, remainder)
        return RowsByMiniBatch(shuffled, sizes)


def _numbers(values: Any, what: str, where: str) -> NDArray[Any]:
    array = _array(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuf":
        raise DataError(
            f"{where} needs {what}, a number for each row, but got {array.dtype} of shape {array.shape}. To fix, pass "
            "a column of numbers of the training set, or an array of shape (rows,)."
        )
    return array


def _classes(labels: Any, where: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    array = _array(labels)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "biuUS":
        raise DataError(
            f"{where} needs labels, an integer or a string for each row, but got {array.dtype} of shape {array.shape}. "
            "To fix, pass a column of labels of the training set, or an array of shape (rows,)."
        )
    _, classes, counts = np.unique(array, return_inverse=True, return_counts=True)
    return classes.astype(np.int64, copy=False), counts.astype(np.int64, copy=False)


def _array(values: Any) -> NDArray[Any]:
    if isinstance(values, torch.Tensor):
        return np.asarray(values.detach().cpu())
    # A column of datasets reads its rows one by one, unless it is sliced.
    return np.asarray(values if isinstance(values, np.ndarray) else values[:])


def _check_count(count: object, name: str, where: str) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise DataError(f"{where} expects {name}, an integer of at least 1, but got {count!r}.")
