"""Memory that large tensors use again and again, since new memory costs time on its first use."""

import torch

MOST_BYTES = 2**27


class ReusedMemory:
    """Creates tensors in the memory of earlier ones."""

    def __init__(self) -> None:
        self._bytes: dict[tuple[str, torch.device], torch.Tensor] = {}

    def tensor(self, use: str, like: torch.Tensor, *shape: int) -> torch.Tensor:
        """Returns a tensor with any values. It has the memory of the last one for this use, which must be over.

        Args:
            use: What the tensor is for.
            like: A tensor of its dtype and device.
            *shape: Its shape.

        Returns:
            The tensor. One that is larger than `MOST_BYTES` has memory of its own, which isn't reserved afterwards.
        """
        size = like.element_size()
        for length in shape:
            size *= length
        if size > MOST_BYTES:
            return like.new_empty(shape)
        memory = self._bytes.get((use, like.device))
        if memory is None or len(memory) < size:
            memory = self._bytes[use, like.device] = torch.empty(size, dtype=torch.uint8, device=like.device)
        return memory[:size].view(like.dtype).view(shape)
