"""The state of a run between two iterations: gathered for a checkpoint, and restored from it."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol, TypeGuard, runtime_checkable

from torchbase.checkpoints.distributed_tensors import as_in, distributed_parameter, restored
from torchbase.checkpoints.network_loading import load_network
from torchbase.checkpoints.optimizer_loading import check_same_optimizers, class_of, load_optimizers
from torchbase.checkpoints.saved_tensors import in_memory
from torchbase.checkpoints.storage import Checkpoint
from torchbase.engine.named_optimizers import place_of_group
from torchbase.engine.optimizer_groups import GroupValues, changed_values
from torchbase.engine.phase import Phase, Progress, SeekableLoader
from torchbase.engine.plugins import is_for_main_process
from torchbase.engine.run import BestLoss, Run
from torchbase.engine.training_step import network_of, optimizer_of
from torchbase.errors import CheckpointError
from torchbase.randomness.streams import capture_streams, pack_streams, unpack_streams

logger = logging.getLogger("torchbase")


@runtime_checkable
class Stateful(Protocol):
    """A hook, or a seekable loader of the training phase, whose state is saved in every checkpoint."""

    def state_dict(self) -> Mapping[str, Any]:
        """Returns the state: tensors and plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a state that `state_dict` returned."""


def gather(run: Run) -> dict[str, Any]:
    """Gathers everything that a run needs to resume.

    Args:
        run: The run, between two training iterations.

    Returns:
        The parts of a checkpoint by name: tensors (those of the run, not copies) and plain values. The network is a
        separate part, since other runs start from it. Every further part would be one more file to wait for.
    """
    return {
        "network": network_of(run).state_dict(),
        "training": {
            "optimizer": _state_of_optimizer(run),
            "run": _state_of_run(run),
            "hooks": {name: hook.state_dict() for name, hook in _stateful_hooks(run)},
        },
    }


def _stateful_hooks(run: Run) -> list[tuple[str, Stateful]]:
    # All processes gather only if the run is sharded, to save the rows that they hold.
    called = {name: hook for name, hook in run.hooks.items() if run.processes.is_main or not is_for_main_process(hook)}
    return [(name, hook) for name, hook in called.items() if _is_stateful(hook)]


def _is_stateful(hook: object) -> TypeGuard[Stateful]:
    # isinstance would take ten times as long with a protocol, for each hook at each checkpoint.
    return all(callable(getattr(hook, name, None)) for name in ("state_dict", "load_state_dict"))


def state_of_loader(run: Run) -> Mapping[str, Any] | None:
    """Returns the state of the training loader; None if it has none. All processes have to call it.

    Args:
        run: The run.
    """
    loader = _stateful_loader(run)
    return None if loader is None else loader.state_dict()


def can_gather_alone(run: Run) -> bool:
    """Whether a process needs no other process to gather the state of a run.

    Args:
        run: The run.
    """
    return run.processes.count == 1 or _stateful_loader(run) is None


def restore(run: Run, saved: Checkpoint) -> None:
    """Restores the state of a run from a checkpoint.

    Args:
        run: The run, built like the run that saved the checkpoint.
        saved: The checkpoint. It may be opened (`torchbase.checkpoints.storage.open_checkpoint`): then each tensor is
            read when it is restored and, if the run is sharded, only the rows that this process holds.

    Raises:
        CheckpointError: If the network or the optimizer doesn't match the saved one.
    """
    network, training = saved.parts["network"], saved.parts["training"]
    optimizer, state_of_run = training["optimizer"], in_memory(training["run"])
    check_same_optimizers(optimizer_of(run), optimizer, saved.path)
    loads = (
        ("network", partial(load_network, network_of(run), network)),
        ("optimizer", partial(load_optimizers, optimizer_of(run), optimizer["state"])),
    )
    for name, load in loads:
        try:
            load()
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"The {name} saved in {saved.path} doesn't match the {name} that this session built: {error}. "
                "To fix, resume with the code and the config that the run was started with."
            ) from error
    _apply_changed_values(run, optimizer["groups_as_built"])
    for name, parameter in network_of(run).named_parameters():
        gradient = as_in(parameter, optimizer["gradients"].get(name))
        parameter.grad = None if gradient is None else gradient.to(parameter.device)
    run.epoch, run.epochs_done = state_of_run["epoch"], state_of_run["epochs_done"]
    run.best_losses.clear()
    run.best_losses.update({name: BestLoss(**best) for name, best in state_of_run["best_losses"].items()})
    for phase in run.phases:
        state_of_phase = state_of_run["phases"].get(phase.name)
        if state_of_phase is None:
            logger.warning("%s has no state of %s, which starts from scratch.", saved.path.name, phase.name)
        else:
            phase.progress = Progress(**state_of_phase["progress"])
            phase.averages = dict(state_of_phase["averages"])
    _restore_hooks(run, saved)
    _restore_loader(run, saved)
    run.random_states = unpack_streams(state_of_run["random"])


def _state_of_optimizer(run: Run) -> dict[str, Any]:
    optimizer = optimizer_of(run)
    return {
        "class": class_of(optimizer),
        "groups_as_built": list(run.groups_as_built),
        "state": optimizer.state_dict(),
        "gradients": _gradients_of(run),
    }


def _state_of_run(run: Run) -> dict[str, Any]:
    return {
        "epoch": run.epoch,
        "epochs_done": run.epochs_done,
        "best_losses": {name: asdict(best) for name, best in run.best_losses.items()},
        "phases": {phase.name: _progress_of(phase) for phase in run.phases},
        "random": pack_streams(capture_streams(run.device)),
        "loader": state_of_loader(run),
    }


def _apply_changed_values(run: Run, saved_groups: Sequence[GroupValues]) -> None:
    # Each group is compared with what it was built with. A value that a schedule has changed stays, unless this session
    # built the group with another one.
    optimizer = optimizer_of(run)
    pairs = zip(optimizer.param_groups, saved_groups, run.groups_as_built, strict=False)
    for number, (group, then, now) in enumerate(pairs):
        where = place_of_group(optimizer, number)
        changed = changed_values(then, now)
        for name, value in changed.items():
            logger.warning("The optimizer continues with %s=%s instead of %s%s.", name, value, then[name], where)
        if "lr" in changed and "initial_lr" in group:  # left by a scheduler
            logger.warning(
                "The learning rate schedule continues from its saved state%s. A schedule that computes its rates from "
                "the first rate, like LambdaLR, undoes this change at its next step. To train with another rate, start "
                "a new run from this network (source_run_dir_tag).",
                where,
            )
        group.update(copy.deepcopy(changed))


def _gradients_of(run: Run) -> dict[str, Any]:
    # Between two iterations there are none, except when they are accumulated.
    return {name: one.grad for name, one in network_of(run).named_parameters() if one.grad is not None}


def _progress_of(phase: Phase) -> dict[str, Any]:
    progress = phase.progress
    saved = replace(progress)
    if not phase.is_training and not saved.is_done:  # an interrupted validation restarts
        saved.iterations, saved.mini_batches = saved.iterations - saved.mini_batches, 0
    return {"progress": asdict(saved), "averages": dict(phase.averages)}


def _restore_hooks(run: Run, saved: Checkpoint) -> None:
    distributed = distributed_parameter(optimizer_of(run))
    for name, state in saved.parts["training"]["hooks"].items():
        hook = run.hooks.get(name)
        if _is_stateful(hook):
            hook.load_state_dict(restored(state, distributed))
        else:
            logger.warning("%s has a state of the hook '%s', which isn't registered.", saved.path.name, name)


def _stateful_loader(run: Run) -> Stateful | None:
    # Only of the training phase: an interrupted validation restarts. Only of a seekable loader: another loader would
    # skip the completed mini-batches a second time.
    loader = run.training.loader
    return loader if isinstance(loader, SeekableLoader) and isinstance(loader, Stateful) else None


def _restore_loader(run: Run, saved: Checkpoint) -> None:
    state, loader = in_memory(saved.parts["training"]["run"]["loader"]), _stateful_loader(run)
    if state is not None and loader is not None:
        loader.load_state_dict(state)
    elif state is not None:
        logger.warning(
            "%s has a state of the training loader, but this session's loader can't restore one.", saved.path.name
        )
