"""The sum of the gradients of parts, in an order that depends on nothing but the numbers of the parts."""

from collections.abc import Sequence

import torch

Gradients = Sequence[torch.Tensor | None]


class TreeSum:
    """Adds lists of tensors in a fixed binary tree, while they arrive one after the other.

    Floating-point addition rounds, so the order of additions changes the last bits. Here, parts 0 and 1 are added,
    parts 2 and 3, then both sums, and so on. The sum of an aligned block of parts is then one number, wherever it is
    computed. At most one sum for each level of the tree is in memory, as in a binary counter.
    """

    def __init__(self) -> None:
        self._sums: list[tuple[int, list[torch.Tensor | None]]] = []  # the level of each sum, from the highest

    def add(self, tensors: Gradients, level: int = 0) -> None:
        """Adds the tensors of the next part, or the sum of the next block of parts.

        Args:
            tensors: One entry per parameter; None if the part has no gradient for it. The sum may be computed in them.
                An empty list if the part has no samples. It adds nothing, but the parts after it keep their places.
            level: The level of the block in the tree: it has 2**level parts, or it is the last one and has fewer.
        """
        block = list(tensors)
        while self._sums and self._sums[-1][0] == level:
            block, level = _add(self._sums.pop()[1], block), level + 1
        self._sums.append((level, block))

    def total(self) -> list[torch.Tensor | None]:
        """Returns the sum of all parts, and begins anew.

        Returns:
            One entry per parameter; None if no part had a gradient for it. An empty list if no part had samples.
        """
        total: list[torch.Tensor | None] = []
        while self._sums:
            block = self._sums.pop()[1]
            total = _add(block, total)
        return total


def _add(left: Gradients, right: Gradients) -> list[torch.Tensor | None]:
    if not left or not right:
        return list(left or right)
    return [_add_tensors(one, other) for one, other in zip(left, right, strict=True)]


def _add_tensors(left: torch.Tensor | None, right: torch.Tensor | None) -> torch.Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    if left.is_sparse and not right.is_sparse:  # only a dense tensor can hold the sum
        left, right = right, left
    return left.add_(right)
