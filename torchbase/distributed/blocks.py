"""Which parts of a mini-batch each process computes: a block of the tree of `TreeSum`, or one part in each round."""

import heapq
from typing import NamedTuple


class Block(NamedTuple):
    """Consecutive parts whose sum is one number in the tree.

    Attributes:
        parts: The numbers of the parts.
        level: The level of the block in the tree: the exponent of its size, rounded up to a power of two.
    """

    parts: range
    level: int


def share_out(parts: int, processes: int) -> list[Block]:
    """Shares out the parts of a mini-batch among processes, as evenly as the tree allows.

    A process owns a whole block of the tree, so it sends one sum of gradients for all of its parts. With a power of
    two of parts per process all have the same number; 8 parts are shared out as 4, 2 and 2 among 3 processes.

    Args:
        parts: The number of parts of each mini-batch.
        processes: The number of processes, at most ``parts``.

    Returns:
        The block of each process, in order.
    """
    # The last of the largest blocks is halved, so that the first processes have the larger ones.
    blocks = [_with_rank(Block(range(parts), (parts - 1).bit_length()))]
    while len(blocks) < processes:
        first, second = _halves(heapq.heappop(blocks)[1])
        heapq.heappush(blocks, _with_rank(first))
        heapq.heappush(blocks, _with_rank(second))
    return sorted((block for _, block in blocks), key=lambda block: block.parts.start)


def _with_rank(block: Block) -> tuple[tuple[int, int], Block]:
    return (-len(block.parts), -block.parts.start), block


def take_turns(parts: int, processes: int) -> list[range]:
    """Deals out the parts of a mini-batch in turn, as for a network that is sharded over the processes.

    In each round the processes compute consecutive parts, one each. With a power of two of processes, the parts of a
    round are one block of the tree.

    Args:
        parts: The number of parts of each mini-batch.
        processes: The number of processes, at most ``parts``.

    Returns:
        The parts of each process, in order.
    """
    return [range(index, parts, processes) for index in range(processes)]


def _halves(block: Block) -> list[Block]:
    first, last = block.parts.start, block.parts.stop
    middle = first + 2 ** (block.level - 1)
    return [
        Block(range(first, middle), block.level - 1),
        Block(range(middle, last), (last - middle - 1).bit_length()),
    ]
