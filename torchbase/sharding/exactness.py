"""What keeps a sharded run from having the bits of a run of one process, said before training."""

import logging
from collections.abc import Iterator

import torch

logger = logging.getLogger("torchbase")

# They compute each element of a parameter by itself. Each form of them was compared: see tests/sharding.
ELEMENT_WISE = (
    *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam),
    *(torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.ASGD, torch.optim.Rprop),
)


def warn_of_rounding(optimizer: torch.optim.Optimizer, processes: int, device: torch.device) -> None:
    """Warns if the last bits of a sharded run depend on the number of processes.

    Args:
        optimizer: The optimizer.
        processes: The number of processes.
        device: The device of the network.
    """
    reasons = list(_reasons(optimizer, processes, device))
    if reasons:
        logger.warning(
            "The result of this sharded run equals that of another number of processes to rounding, not in each bit: "
            "%s. Samples, random numbers and their order are the same.",
            "; and ".join(reasons),
        )


def _reasons(optimizer: torch.optim.Optimizer, processes: int, device: torch.device) -> Iterator[str]:
    name = type(optimizer).__name__
    if type(optimizer) not in ELEMENT_WISE:
        yield f"the optimizer {name} isn't known to compute each element by itself, as Adam and SGD do"
    elif device.type == "cpu" and any(group.get("fused") for group in optimizer.param_groups):
        yield f"the fused {name} rounds the last elements of a shard otherwise on CPUs (to fix, pass fused=False)"
    if processes & (processes - 1):
        yield f"{processes} processes aren't a power of two, so the gradients of their parts are added in another order"
