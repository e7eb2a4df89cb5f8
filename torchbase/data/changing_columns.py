"""Warns of columns that are a tensor in some mini-batches and a list in others."""

import logging
from typing import Any

import torch

logger = logging.getLogger("torchbase")


class ChangingColumns:
    """Compares the columns of each mini-batch with those before, where nothing says before which type they have.

    A transform, or a stream, returns values whose shapes are only known when they are read. If they happen to be equal
    in a mini-batch, they are stacked.
    """

    def __init__(self, name: str) -> None:
        """Sets the name of the data in the warning."""
        self._name = name
        self._was_stacked: dict[str, bool] = {}
        self._reported: set[str] = set()

    def check(self, column: str, values: Any) -> None:
        """Warns, once per column, if a column of several samples has changed between tensor and list of tensors.

        Args:
            column: The name of the column.
            values: Its values in a mini-batch.
        """
        if column in self._reported:
            return
        is_stacked = isinstance(values, torch.Tensor)
        if is_stacked and len(values) < 2:  # a single sample is always stacked
            return
        if not is_stacked and not (isinstance(values, list) and values and isinstance(values[0], torch.Tensor)):
            return
        if self._was_stacked.setdefault(column, is_stacked) != is_stacked:
            self._reported.add(column)
            logger.warning(
                "The column '%s' of %s is a tensor in some mini-batches and a list of tensors in others, since its "
                "values have equal shapes in some by chance. To fix, pad or crop them, e.g. in "
                "dataloader_collate_function with torchbase.data.pad.",
                column,
                self._name,
            )
