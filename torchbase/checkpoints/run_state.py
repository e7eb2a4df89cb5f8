"""The state of a run between two iterations: everything it needs to go on, gathered and put back."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol, runtime_checkable

import torch

from torchbase.checkpoints.storage import Checkpoint
from torchbase.engine.phase import Phase, Progress, SeekableLoader
from torchbase.engine.run import BestLoss, Run
from torchbase.engine.training_step import network_of, optimizer_of
from torchbase.errors import CheckpointError
from torchbase.randomness import capture_streams, pack_streams, unpack_streams

logger = logging.getLogger("torchbase")


@runtime_checkable
class Stateful(Protocol):
    """A hook, or a seekable loader of the training phase, whose state is kept in every checkpoint."""

    def state_dict(self) -> Mapping[str, Any]:
        """Gives the state: tensors and plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the state that `state_dict` gave."""


def gather(run: Run) -> dict[str, Any]:
    """Gathers everything that a run needs to go on.

    Args:
        run: The run, between two training iterations.

    Returns:
        By the part of a checkpoint, tensors (those of the run itself, not copies) and plain values. The network is a
        part by itself, since others begin with it; each further part would be a further file to wait for.
    """
    return {
        "network": network_of(run).state_dict(),
        "training": {
            "optimizer": _state_of_optimizer(run),
            "run": _state_of_run(run),
            "hooks": {name: hook.state_dict() for name, hook in run.hooks.items() if isinstance(hook, Stateful)},
        },
    }


def restore(run: Run, saved: Checkpoint) -> None:
    """Puts a run into the state of a checkpoint.

    Args:
        run: The run, built as it was.
        saved: The checkpoint.

    Raises:
        CheckpointError: If the network or the optimizer is another than the one that was kept.
    """
    network, training = saved.parts["network"], saved.parts["training"]
    optimizer, kept = training["optimizer"], training["run"]
    if (built := type(optimizer_of(run)).__qualname__) != optimizer["class"]:
        raise CheckpointError(
            f"The optimizer kept in {saved.path} is of the class {optimizer['class']}, and this session built one of "
            f"the class {built}. To fix, resume with the code that the run was begun with, or begin a new run with its "
            "network (source_run_dir_tag)."
        )
    with_owner = (("network", network, network_of(run)), ("optimizer", optimizer["state"], optimizer_of(run)))
    for name, state, owner in with_owner:
        try:
            owner.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"The {name} kept in {saved.path} doesn't fit the one that this session built: {error}. "
                "To fix, resume with the code and the config that the run was begun with."
            ) from error
    _take_what_was_changed(optimizer_of(run), optimizer["defaults"])
    for name, parameter in network_of(run).named_parameters():
        gradient = optimizer["gradients"].get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter.device)
    run.epoch, run.epochs_done = kept["epoch"], kept["epochs_done"]
    run.best_losses.clear()
    run.best_losses.update({name: BestLoss(**best) for name, best in kept["best_losses"].items()})
    for phase in run.phases:
        phase_kept = kept["phases"].get(phase.name)
        if phase_kept is None:
            logger.warning("%s holds nothing of %s, which begins anew.", saved.path.name, phase.name)
        else:
            phase.progress, phase.averages = Progress(**phase_kept["progress"]), dict(phase_kept["averages"])
    _put_back_hooks(run, saved)
    _put_back_loader(run, saved)
    run.random_states = unpack_streams(kept["random"])


def _state_of_optimizer(run: Run) -> dict[str, Any]:
    optimizer = optimizer_of(run)
    return {
        "class": type(optimizer).__qualname__,
        "defaults": _plain_defaults_of(optimizer),
        "state": optimizer.state_dict(),
        "gradients": _gradients_of(run),
    }


def _state_of_run(run: Run) -> dict[str, Any]:
    loader = _stateful_loader(run)
    return {
        "epoch": run.epoch,
        "epochs_done": run.epochs_done,
        "best_losses": {name: asdict(best) for name, best in run.best_losses.items()},
        "phases": {phase.name: _progress_of(phase) for phase in run.phases},
        "random": pack_streams(capture_streams(run.device)),
        "loader": None if loader is None else loader.state_dict(),
    }


def _plain_defaults_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    plain = (int, float, bool, tuple, type(None))
    return {name: value for name, value in optimizer.defaults.items() if isinstance(value, plain)}


def _take_what_was_changed(optimizer: torch.optim.Optimizer, defaults: Mapping[str, Any]) -> None:
    # What a schedule made of a value is kept, unless the session was built with another one than the run before.
    for name, value in _plain_defaults_of(optimizer).items():
        if name in defaults and defaults[name] != value:
            logger.warning("The optimizer goes on with %s=%s in place of %s.", name, value, defaults[name])
            if name == "lr" and any("initial_lr" in group for group in optimizer.param_groups):  # left by a scheduler
                logger.warning(
                    "The schedule of the learning rate goes on as it was kept: one that computes its rates from the "
                    "first one, like LambdaLR, takes that back at its next step. To train on at another rate, begin a "
                    "new run with this network (source_run_dir_tag)."
                )
            for group in optimizer.param_groups:
                group[name] = value


def _gradients_of(run: Run) -> dict[str, Any]:
    # Between two iterations there are none, but where they are accumulated over several.
    return {name: one.grad for name, one in network_of(run).named_parameters() if one.grad is not None}


def _progress_of(phase: Phase) -> dict[str, Any]:
    progress = phase.progress
    kept = replace(progress)
    if not phase.is_training and not kept.is_done:  # a validation that was broken off begins again
        kept.iterations, kept.mini_batches = kept.iterations - kept.mini_batches, 0
    return {"progress": asdict(kept), "averages": dict(phase.averages)}


def _put_back_hooks(run: Run, saved: Checkpoint) -> None:
    for name, state in saved.parts["training"]["hooks"].items():
        hook = run.hooks.get(name)
        if isinstance(hook, Stateful):
            hook.load_state_dict(state)
        else:
            logger.warning("%s holds a state of the hook '%s', which isn't registered.", saved.path.name, name)


def _stateful_loader(run: Run) -> Stateful | None:
    # Of the training phase alone: a validation that was broken off begins again. Only where the loader is told where to
    # begin: of another, what is done would be passed over once more.
    loader = run.training.loader
    return loader if isinstance(loader, SeekableLoader) and isinstance(loader, Stateful) else None


def _put_back_loader(run: Run, saved: Checkpoint) -> None:
    state, loader = saved.parts["training"]["run"]["loader"], _stateful_loader(run)
    if state is not None and loader is not None:
        loader.load_state_dict(state)
    elif state is not None:
        logger.warning("%s holds a state of the training loader, and this one takes none.", saved.path.name)
