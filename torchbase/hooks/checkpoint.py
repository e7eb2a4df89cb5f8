"""Keeps the run on disk, so that it can go on from there."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

import torch

from torchbase.checkpoints import Checkpoint as SavedCheckpoint
from torchbase.checkpoints import keep_newest, newest_whole_checkpoint, write_checkpoint
from torchbase.errors import CheckpointError, NonFiniteError
from torchbase.hookspecs import hookimpl
from torchbase.randomness import capture_streams
from torchbase.run import BestLoss, Phase, Progress, Run, SeekableLoader
from torchbase.training_step import network_of, optimizer_of

logger = logging.getLogger("torchbase")

CHECKPOINTS_KEPT = 2


@runtime_checkable
class Stateful(Protocol):
    """A hook, or a seekable loader of the training phase, whose state is kept in every checkpoint."""

    def state_dict(self) -> Mapping[str, Any]:
        """Gives the state: tensors and plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the state that `state_dict` gave."""


class Checkpoint:
    """Writes a checkpoint at the end of each epoch, in between as often as asked, and when the run ends early.

    At the start of a run it goes on from the newest whole checkpoint of the run directory, if there is one.
    """

    def __init__(self, every_n_iterations: int | None = None, every_seconds: float | None = 60.0) -> None:
        """Sets how often, beside the end of each epoch.

        Args:
            every_n_iterations: After how many training iterations, counted over the whole run; None for not at all.
            every_seconds: After how many seconds since the last one; None for not at all.
        """
        self._every_n_iterations = every_n_iterations
        self._every_seconds = every_seconds
        self._written_at = time.monotonic()
        self._kept: tuple[int, int] | None = None

    # First, so that the other hooks find the run and themselves as they were.
    @hookimpl(tryfirst=True)
    def on_run_start(self, run: Run) -> None:
        """Goes on from the newest whole checkpoint."""
        self._written_at, self._kept = time.monotonic(), None
        if run.run_directory is None:
            return
        saved = newest_whole_checkpoint(run.run_directory.states)
        if saved is not None:
            restore(run, saved)
            self._kept = _position(run)
            logger.info("Resumed from %s: %d epochs are done.", saved.path.name, run.epochs_done)

    # Last, so that what other hooks do with the iteration is in it.
    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Writes a checkpoint when one is due."""
        if not phase.is_training:
            return
        every_n, every_seconds = self._every_n_iterations, self._every_seconds
        if (every_n is not None and phase.progress.iterations % every_n == 0) or (
            every_seconds is not None and time.monotonic() - self._written_at >= every_seconds
        ):
            self._write(run)

    @hookimpl(trylast=True)
    def on_epoch_end(self, run: Run) -> None:
        """Writes a checkpoint."""
        self._write(run)

    @hookimpl(trylast=True)
    def on_run_end(self, run: Run) -> None:
        """Writes a checkpoint if the run ends in the middle of an epoch."""
        if self._kept != _position(run):
            self._write(run)

    def _write(self, run: Run) -> None:
        if run.run_directory is None:
            return
        run.read_values()  # the averages need them, and NaN among them ends the run here
        check_is_finite(network_of(run))
        states = run.run_directory.states
        write_checkpoint(states, run.epochs_done, run.progress.iterations, snapshot(run))
        keep_newest(states, CHECKPOINTS_KEPT)
        self._written_at, self._kept = time.monotonic(), _position(run)


def snapshot(run: Run) -> dict[str, Any]:
    """Gathers everything that a run needs to go on.

    Args:
        run: The run, between two training iterations.

    Returns:
        Tensors and plain values, by what they are of.
    """
    loader = _stateful_loader(run)
    return {
        "network": network_of(run).state_dict(),
        "optimizer": optimizer_of(run).state_dict(),
        "progress": {
            "epoch": run.epoch,
            "epochs_done": run.epochs_done,
            "best_losses": {name: asdict(best) for name, best in run.best_losses.items()},
            "phases": {phase.name: _progress_of(phase) for phase in run.phases},
        },
        "random": capture_streams(run.device),
        "hooks": {name: hook.state_dict() for name, hook in run.hooks.items() if isinstance(hook, Stateful)},
        **({} if loader is None else {"loaders": {run.training.name: loader.state_dict()}}),
    }


def restore(run: Run, saved: SavedCheckpoint) -> None:
    """Puts a run into the state of a checkpoint.

    Args:
        run: The run, built as it was.
        saved: The checkpoint.

    Raises:
        CheckpointError: If the network or the optimizer is another than the one that was kept.
    """
    parts = saved.parts
    for name, owner in (("network", network_of(run)), ("optimizer", optimizer_of(run))):
        try:
            owner.load_state_dict(parts[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"The {name} kept in {saved.path} doesn't fit the one that this session built: {error}. "
                "To fix, resume with the code and the config that the run was begun with."
            ) from error
    progress = parts["progress"]
    run.epoch, run.epochs_done = progress["epoch"], progress["epochs_done"]
    run.best_losses.clear()
    run.best_losses.update({name: BestLoss(**best) for name, best in progress["best_losses"].items()})
    for phase in run.phases:
        kept = progress["phases"].get(phase.name)
        if kept is None:
            logger.warning("%s holds nothing of %s, which begins anew.", saved.path.name, phase.name)
        else:
            phase.progress, phase.averages = Progress(**kept["progress"]), dict(kept["averages"])
    _restore_hooks(run, parts["hooks"], saved)
    _restore_loader(run, parts.get("loaders", {}), saved)
    run.random_states = parts["random"] if run.progress.mini_batches and not run.progress.is_done else None


def check_is_finite(network: torch.nn.Module) -> None:
    """Refuses a network that has learnt NaN or infinity.

    Args:
        network: The network.

    Raises:
        NonFiniteError: If a parameter isn't finite; all of them are looked at in one transfer.
    """
    named = [(name, one) for name, one in network.named_parameters() if one.is_floating_point()]
    if not named:
        return
    are_finite = torch.stack([torch.isfinite(one.detach()).all().to(named[0][1].device) for _, one in named]).tolist()
    for (name, _), is_finite in zip(named, are_finite, strict=True):
        if not is_finite:
            raise NonFiniteError(
                f"The parameter '{name}' of the network holds NaN or infinity, so no checkpoint is written from it; "
                "the one before it stays. To fix, look for a learning rate that is too high, or for gradients to clip."
            )


def _progress_of(phase: Phase) -> dict[str, Any]:
    progress = phase.progress
    kept = Progress(progress.iterations, progress.mini_batches, progress.is_done)
    if not phase.is_training and not kept.is_done:  # a validation that was broken off begins again
        kept.iterations, kept.mini_batches = kept.iterations - kept.mini_batches, 0
    return {"progress": asdict(kept), "averages": dict(phase.averages)}


def _restore_hooks(run: Run, states: Mapping[str, Any], saved: SavedCheckpoint) -> None:
    for name, state in states.items():
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


def _restore_loader(run: Run, states: Mapping[str, Any], saved: SavedCheckpoint) -> None:
    state, loader = states.get(run.training.name), _stateful_loader(run)
    if state is not None and loader is not None:
        loader.load_state_dict(state)
    elif state is not None:
        logger.warning("%s holds a state of the training loader, and this one takes none.", saved.path.name)


def _position(run: Run) -> tuple[int, int]:
    return run.progress.iterations, run.epochs_done
