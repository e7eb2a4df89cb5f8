"""Tries mini-batches of each phase before training, to find errors early."""

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import torch

from torchbase.checkpoints.forward_state import copier_of, forward_undone, hooks_undone
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import check_is_number, check_weight
from torchbase.engine.mini_batch_notes import add_faults, add_note
from torchbase.engine.modes import set_mode
from torchbase.engine.optimizer_parameters import parameters_not_held
from torchbase.engine.phase import Phase, ValueNames
from torchbase.engine.preview import mini_batches_to_try
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.engine.turn_taking import take_turns
from torchbase.errors import StepError, describe_returned, list_first
from torchbase.logging_backends.base import LoggingBackend
from torchbase.metrics.selection import SelectedMetrics
from torchbase.randomness.streams import isolate_rng, seed_streams

logger = logging.getLogger("torchbase")

SHORTER = (
    "; it is shorter than the others. To fix, choose a mini-batch size that leaves another remainder, {}or make the "
    "code work with fewer samples"
)


class Rehearsal:
    """Tries the first and the shortest mini-batch of each phase before training, to find errors early.

    A mini-batch passes through ``forward_pass``, the loss and the metrics; the weights don't change. The names of the
    values that the first one logs are stored on each phase (``phase.value_names``). The shortest mini-batch of the
    first epoch is the last one if a dataset has a remainder. It is tried since batch normalization, for one, can't
    train on a single sample. That of a stream, or of another loader, isn't known before.

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
        if run.is_finished:
            return
        if run.turns is not None:
            run.turns.of_iteration(run.progress.iterations + 1)  # which checks them
        seen: dict[str, set[str]] = {}
        changed: dict[str, None] = {}  # in the order of the network
        copier: NetworkCopier | None = None
        # The state of a backend says what is written, and to ask for it waits until all is.
        hooks = [name for name, hook in run.hooks.items() if not isinstance(hook, LoggingBackend)]
        with isolate_rng(run.device), hooks_undone(run, hooks):
            for phase in run.phases:
                if run.randomness is not None:
                    seed_streams(run.randomness.derive("rehearsal", phase.name), run.device)
                for position, batch in mini_batches_to_try(phase.loader):
                    seen[phase.name] = set(batch) if isinstance(batch, Mapping) else set()
                    missing = seen.get("training", set()) - seen[phase.name]  # an iterator isn't tried
                    copier = copier or copier_of(run)
                    with forward_undone(copier) as before:
                        self._rehearse(run, phase, position, batch, missing)
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

    def _rehearse(self, run: Run, phase: Phase, position: int, batch: Any, missing: set[str]) -> None:
        run.current_phase = phase
        set_mode(network_of(run), phase.is_training, run.frozen_in_eval)
        try:
            with torch.set_grad_enabled(phase.is_training):
                forward = partial(run.call.run_forward, run=run, phase=phase, batch=batch)
                if run.turns is None or not phase.is_training:
                    forward()
                else:
                    take_turns(run, phase, run.turns, run.turns.names, forward)
            _check_values(phase)
            of_iteration = of_epoch = tuple(phase.values)
            metrics = None if run.metrics is None else run.metrics.of(is_training=phase.is_training)
            if metrics is not None and metrics.names and phase.outputs is not None:
                iteration_metrics, epoch_metrics = _rehearse_metrics(metrics, phase)
                of_iteration, of_epoch = (*of_iteration, *iteration_metrics), (*of_epoch, *epoch_metrics)
            if position == 0:
                phase.value_names = ValueNames(of_iteration, of_epoch)
        except Exception as error:
            difference = f"; training also has {sorted(missing)}" if missing else ""
            which, remainder = ("first", "") if position == 0 else _of_shortest(position, phase)
            place = f"before training, with the {which} mini-batch of {phase.name}"
            add_note(error, place, batch, more=difference + remainder)
            add_faults(error, phase.loader, 1, position)
            raise
        finally:
            run.current_phase = phase.outputs = phase.loss = phase.loss_weight = None
            phase.values = {}


def _of_shortest(position: int, phase: Phase) -> tuple[str, str]:
    name = "last" if position + 1 == phase.count_mini_batches(1) else "shortest"
    return name, SHORTER.format("set session.drop_last, " if phase.is_training else "")


def _check_values(phase: Phase) -> None:
    for name, value in phase.values.items():
        check_is_number(name, value)
    if phase.loss_weight is not None:
        check_weight(phase.loss_weight.value)
    if not isinstance(phase.samples, Integral | torch.Tensor):
        raise StepError(
            "infer_mini_batch_size has to return the number of samples in a mini-batch, an int, but returned "
            f"{describe_returned(phase.samples)}."
        )


def _warn_of_changed_parameters(run: Run, changed: Iterable[str]) -> None:
    trained = [name for name in changed if network_of(run).get_parameter(name).requires_grad]
    if trained:
        logger.warning(
            "forward_pass changes %s, which the optimizer also changes, since it requires a gradient. If an iteration "
            "is skipped or retried (nan_policy 'skip', RetryOnOutOfMemory), this change is not reverted. To fix, call "
            "requires_grad_(False) on parameters that forward_pass changes.",
            list_first(map(repr, trained)),
        )


def _warn_of_parameters_not_held(missing: Sequence[str]) -> None:
    if missing:
        logger.warning(
            "The optimizer doesn't train these parameters of the network, which require a gradient, since it doesn't "
            "hold them: %s. To fix, pass them to the optimizer in init_optimizer, or call requires_grad_(False) on "
            "them.",
            list_first(map(repr, missing)),
        )


def _rehearse_metrics(metrics: SelectedMetrics, phase: Phase) -> tuple[Mapping[str, float], Mapping[str, float]]:
    outputs: Mapping[str, Any] = phase.outputs or {}
    metrics.check_outputs(outputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a single mini-batch may lack a class
        epoch = metrics.begin_epoch()
        iteration_metrics = epoch.measure(outputs, metrics.on_host(outputs), phase.samples)
        return iteration_metrics, epoch.compute()[0]
