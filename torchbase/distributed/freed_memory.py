"""Memory of gradients that are freed in each iteration, and needed again in the next."""

from functools import cache

import torch

_BYTES = 2**25 - 2**16  # the largest block that glibc counts


@cache  # once in a process, whose memory it concerns
def reuse_freed_memory() -> None:
    """Lets freed gradients stay with the process, so that the next iteration doesn't wait for new memory.

    glibc returns freed memory to the system if it is more than twice the largest block that was freed so far, and the
    system clears each page that is needed again. So one large block is freed here; none of its pages is used.
    """
    torch.empty(_BYTES, dtype=torch.uint8, device="cpu")
