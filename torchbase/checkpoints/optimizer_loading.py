"""Restores optimizers from a checkpoint, and refuses others than those that were saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from torchbase.checkpoints.distributed_tensors import as_in
from torchbase.checkpoints.saved_tensors import in_memory
from torchbase.engine.named_optimizers import NamedOptimizers
from torchbase.errors import CheckpointError
from torchbase.files.nested import map_leaves

Classes = str | Mapping[str, str]
TO_FIX = (
    "To fix, resume with the code that the run was started with, or start a new run from its network "
    "(source_run_dir_tag)."
)


def class_of(optimizer: torch.optim.Optimizer) -> Classes:
    """Returns the name of an optimizer's class; of several optimizers, the classes by their names.

    Args:
        optimizer: The optimizer of the run.
    """
    if isinstance(optimizer, NamedOptimizers):
        return {name: type(one).__qualname__ for name, one in optimizer.items()}
    return type(optimizer).__qualname__


def check_same_optimizers(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], path: Path) -> None:
    """Checks that a session built the optimizers that a checkpoint has.

    Args:
        optimizer: The optimizer of the run.
        saved: The state of the optimizer in the checkpoint.
        path: The checkpoint, for the message.

    Raises:
        CheckpointError: If a class differs. If one of several optimizers is missing, has been added, or has another
            place in their order.
    """
    then, now = saved["class"], class_of(optimizer)
    if isinstance(then, str) and isinstance(now, str):
        if then != now:
            raise CheckpointError(
                f"The optimizer saved in {path} has the class {then}, and this session built one with the class {now}. "
                f"{TO_FIX}"
            )
        return
    difference = _difference(then, now)
    if difference is not None:
        raise CheckpointError(
            f"{path} has {_describe(then)}, and this session built {_describe(now)}: {difference}. {TO_FIX}"
        )


def load_optimizers(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Restores the state of an optimizer, or of several.

    Args:
        optimizer: The optimizer of the run.
        saved: Its saved state.

    Raises:
        ValueError: If the optimizer doesn't match.
    """
    if not isinstance(optimizer, NamedOptimizers):
        _load(optimizer, saved)
        return
    for name, one in optimizer.items():
        try:
            _load(one, saved[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"of '{name}', {error}") from error


def _load(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    of_number = dict(zip(numbers, parameters, strict=False))  # load_state_dict explains another number
    state = map_leaves(saved["state"], lambda path, value: as_in(of_number.get(path[0]), value))
    optimizer.load_state_dict({**saved, "state": state, "param_groups": in_memory(saved["param_groups"])})


def _difference(then: Classes, now: Classes) -> str | None:
    if isinstance(then, str) or isinstance(now, str):
        return "only the optimizers of one of both have names"
    if missing := [name for name in then if name not in now]:
        return f"{missing[0]!r} is missing"
    if added := [name for name in now if name not in then]:
        return f"{added[0]!r} has been added"
    if other := [name for name in then if then[name] != now[name]]:
        return f"{other[0]!r} has another class"
    return None if list(then) == list(now) else "their order differs, which is that of their turns"


def _describe(classes: Classes) -> str:
    if isinstance(classes, str):
        return f"a single optimizer of the class {classes}"
    return f"the optimizers {', '.join(f'{name!r} ({kind})' for name, kind in classes.items())}"
