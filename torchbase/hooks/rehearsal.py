"""Tries one mini-batch of each phase before training, to find errors early."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch

from torchbase.checkpoints.forward_state import forward_undone, hooks_undone
from torchbase.data.seeded_loader import SeededLoader
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.optimizer_parameters import parameters_not_held
from torchbase.engine.phase import Phase, SeekableLoader, ValueNames
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.logging_backends.base import LoggingBackend
from torchbase.metrics.selection import SelectedMetrics
from torchbase.randomness import isolate_rng, seed_streams

logger = logging.getLogger("torchbase")

NAMES_SHOWN = 5


@runtime_checkable
class PreviewLoader(Protocol):
    """A loader that can read one mini-batch without starting its workers."""

    def first_mini_batch(self) -> Any:
        """Returns the first mini-batch of the first epoch."""


class Rehearsal:
    """Tries the first mini-batch of each phase before training, to find errors early.

    The mini-batch passes through ``forward_pass``, the loss and the metrics; the weights don't change. The names of the
    logged values are stored on each phase (``phase.value_names``).

    The random streams, the state of the network (parameters, buffers, extra state, modes) and the states of hooks are
    restored. Other state that ``forward_pass`` changes, such as an attribute of the session, stays changed. To disable
    the hook, call ``session.unregister("rehearsal")``.

    Parameters that require a gradient and that the optimizer doesn't hold are named in a warning.
    """

    def __init__(self) -> None:
        self._checked_epoch = 0
        self._reported: set[str] = set()

    # Last, so that hooks that wrap the forward pass are ready, and the state of a resumed run is restored.
    @hookimpl(trylast=True)
    def on_run_start(self, run: Run) -> None:
        """Tries each phase, unless the run is complete."""
        self._checked_epoch = 0
        if run.epochs_done >= run.max_epochs:
            return
        seen: dict[str, set[str]] = {}
        changed: dict[str, None] = {}  # in the order of the network
        # The state of a backend says what is written, and to ask for it waits until all is.
        hooks = [name for name, hook in run.hooks.items() if not isinstance(hook, LoggingBackend)]
        with isolate_rng(run.device), hooks_undone(run, hooks):
            for phase in run.phases:
                if run.randomness is not None:
                    seed_streams(run.randomness.derive("rehearsal", phase.name), run.device)
                for batch in _first_mini_batch(phase):
                    seen[phase.name] = set(batch) if isinstance(batch, Mapping) else set()
                    with forward_undone(network_of(run)) as before:
                        self._rehearse(run, phase, batch, seen["training"] - seen[phase.name])
                        changed.update(dict.fromkeys(before.changed_parameters()))
        _warn_of_changed_parameters(run, changed)

    # At the start of the training phase, when all hooks have frozen or unfrozen parameters for the epoch.
    @hookimpl(trylast=True)
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Warns of parameters that are to be trained in this epoch, and that the optimizer lacks."""
        if phase.is_training and run.epoch != self._checked_epoch:
            self._checked_epoch = run.epoch
            missing = [name for name in parameters_not_held(run) if name not in self._reported]
            self._reported.update(missing)
            _warn_of_parameters_not_held(missing)

    def _rehearse(self, run: Run, phase: Phase, batch: Any, missing: set[str]) -> None:
        run.current_phase = phase
        network_of(run).train(phase.is_training)
        try:
            with torch.set_grad_enabled(phase.is_training):
                run.call.run_forward(run=run, phase=phase, batch=batch)
            of_iteration = of_epoch = tuple(phase.values)
            if run.metrics is not None and phase.outputs is not None:
                iteration_metrics, epoch_metrics = _rehearse_metrics(run.metrics, phase.outputs)
                of_iteration, of_epoch = (*of_iteration, *iteration_metrics), (*of_epoch, *epoch_metrics)
            phase.value_names = ValueNames(of_iteration, of_epoch)
        except Exception as error:
            difference = f"; training also has {sorted(missing)}" if missing else ""
            error.add_note(f"before training, with the first mini-batch of {phase.name}: {describe(batch)}{difference}")
            raise
        finally:
            run.current_phase = phase.outputs = phase.loss = None
            phase.values = {}


def _warn_of_changed_parameters(run: Run, changed: Iterable[str]) -> None:
    trained = [name for name in changed if network_of(run).get_parameter(name).requires_grad]
    if trained:
        logger.warning(
            "forward_pass changes %s, which the optimizer also changes, since it requires a gradient. If an iteration "
            "is skipped or retried (nan_policy 'skip', RetryOnOutOfMemory), this change is not reverted. To fix, call "
            "requires_grad_(False) on parameters that forward_pass changes.",
            _list(trained),
        )


def _warn_of_parameters_not_held(missing: Sequence[str]) -> None:
    if missing:
        logger.warning(
            "The optimizer doesn't train these parameters of the network, which require a gradient, since it doesn't "
            "hold them: %s. To fix, pass them to the optimizer in init_optimizer, or call requires_grad_(False) on "
            "them.",
            _list(missing),
        )


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:NAMES_SHOWN]) + ", …" * (len(names) > NAMES_SHOWN)


def _rehearse_metrics(
    metrics: SelectedMetrics, outputs: Mapping[str, Any]
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a single mini-batch may lack a class
        iteration_metrics = metrics(outputs)
        epoch = metrics.begin_epoch()
        epoch.add(outputs, metrics.on_host(outputs), samples=1)
        return iteration_metrics, epoch.compute()[0]


def describe(batch: Any) -> str:
    """Describes a mini-batch for a message.

    Args:
        batch: A mini-batch.

    Returns:
        A text with the name, type and shape of each column.
    """
    if not isinstance(batch, Mapping):
        return type(batch).__name__
    return ", ".join(f"{name}: {_describe_column(values)}" for name, values in batch.items()) or "no columns"


def _describe_column(values: Any) -> str:
    if isinstance(values, torch.Tensor):
        return f"{values.dtype} of shape {tuple(values.shape)}"
    if isinstance(values, list):
        return f"list of {len(values)} {type(values[0]).__name__ if values else 'objects'}"
    return type(values).__name__


def _first_mini_batch(phase: Phase) -> Iterator[Any]:
    loader = phase.loader
    if isinstance(loader, PreviewLoader):
        yield loader.first_mini_batch()
    elif isinstance(loader, SeededLoader) and loader.is_iterator:
        return
    elif isinstance(loader, SeekableLoader):
        yield from islice(loader.mini_batches(1, 0), 1)
    elif iter(loader) is not loader:  # an iterator would lose its first mini-batch
        yield from islice(loader, 1)
