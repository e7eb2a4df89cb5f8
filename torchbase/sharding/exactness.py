"""What keeps a sharded run from having the bits of a run of one process, and errors that shards cause, explained."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

logger = logging.getLogger("torchbase")

_NOTE = (
    "The parameters of a sharded network are whole only while the network is called. To fix, call self.network(…) in "
    "forward_pass, not its parts or other methods, and don't use its parameters in the loss."
)
# They compute each element of a parameter by itself, as tests/sharding/test_exactness.py compares for each form.
ELEMENT_WISE = (
    *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam),
    *(torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.ASGD, torch.optim.Rprop),
)


def warn_of_rounding(optimizer: torch.optim.Optimizer, processes: int, device: torch.device, is_mixed: bool) -> None:
    """Warns if the last bits of a sharded run depend on the number of processes.

    Args:
        optimizer: The optimizer.
        processes: The number of processes.
        device: The device of the network.
        is_mixed: Whether the network computes in mixed precision.
    """
    reasons = list(_reasons(optimizer, processes, device))
    if is_mixed:
        reasons.append(
            "in mixed precision one process, or a replicated run, converts for each operation, not for units"
        )
    if reasons:
        logger.warning(
            "The result of this sharded run equals that of another number of processes to rounding, not in each bit: "
            "%s. Samples, random numbers and their order are the same.",
            "; and ".join(reasons),
        )


@contextmanager
def mixed_tensors_explained() -> Iterator[None]:
    """Explains the error of torch for a computation with a parameter that isn't whole."""
    try:
        yield
    except RuntimeError as error:
        if "mixed torch.Tensor and DTensor" in str(error) and _NOTE not in getattr(error, "__notes__", ()):
            error.add_note(_NOTE)
        raise


@contextmanager
def optimizer_explained(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Explains an error of torch for an optimizer that can't compute with shards.

    Args:
        optimizer: The optimizer.
    """
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if "DTensor" in str(error) or "Sharding propagation" in str(error):
            error.add_note(
                f"The optimizer {type(optimizer).__name__} can't compute with the shards of a network "
                "(session.distributed is 'shard'). To fix, use one that computes each element by itself, such as "
                "Adam, AdamW or SGD."
            )
        raise


def _reasons(optimizer: torch.optim.Optimizer, processes: int, device: torch.device) -> Iterator[str]:
    name = type(optimizer).__name__
    if type(optimizer) not in ELEMENT_WISE:
        yield f"the optimizer {name} isn't known to compute each element by itself, as Adam and SGD do"
    elif device.type == "cpu" and any(group.get("fused") for group in optimizer.param_groups):
        yield f"the fused {name} rounds the last elements of a shard otherwise on CPUs (to fix, pass fused=False)"
    if processes & (processes - 1):
        yield f"{processes} processes aren't a power of two, so the gradients of their parts are added in another order"
