"""A copy of all that a forward pass may change in a run, to undo a trial or an iteration that failed."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torchbase.checkpoints.network_copy import NetworkCopier, NetworkCopy
from torchbase.checkpoints.run_state import Stateful
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.files.bitwise import different_values

Others = tuple[list[Any], Mapping[str, Mapping[str, Any]]]


class ForwardState:
    """A copy of the network's state and of the states of hooks that forward passes change."""

    def __init__(self, run: Run, copier: NetworkCopier) -> None:
        """Copies the state.

        Args:
            run: The run. The states of the hooks named in ``run.hooks_changed_by_forward`` are copied.
            copier: Of the run's network.
        """
        self._run, self._network = run, copier.copy()
        self._hooks = _states_of(run, run.hooks_changed_by_forward)

    def restore(self) -> None:
        """Restores the state; it can be called several times."""
        self._network.restore()
        for name, state in self._hooks.items():
            _load(self._run, name, state)


def others_than_tensors(run: Run, copier: NetworkCopier) -> Others | None:
    """Copies what forward passes may change beside tensors of the network.

    Args:
        run: The run. The states of the hooks named in ``run.hooks_changed_by_forward`` are copied.
        copier: Of the run's network.

    Returns:
        The extra states of modules, in order, and the states of hooks by name; None without any.
    """
    extra_states = [state for _, state in copier.extra_states()]
    hooks = _states_of(run, run.hooks_changed_by_forward)
    return (extra_states, hooks) if extra_states or hooks else None


def restore_others(run: Run, copier: NetworkCopier, others: Others) -> None:
    """Restores what `others_than_tensors` of another process returned.

    Args:
        run: The run.
        copier: Of the run's network.
        others: The extra states, and the states of hooks.
    """
    for (module, _), state in zip(copier.extra_states(), others[0], strict=True):
        module.set_extra_state(copy.deepcopy(state))
    for name, state in others[1].items():
        _load(run, name, state)


@contextmanager
def forward_undone(copier: NetworkCopier) -> Iterator[NetworkCopy]:
    """Restores the whole state of a network at the end.

    Args:
        copier: Of the network.

    Yields:
        The copy that will be restored.
    """
    saved = copier.copy(with_trained_parameters=True)
    try:
        yield saved
    finally:
        saved.restore()


@contextmanager
def hooks_undone(run: Run, names: Iterable[str]) -> Iterator[None]:
    """Restores the states of those hooks that forward passes change, and notes the hooks' names on the run.

    A hook whose state changes from one call of ``state_dict`` to the next (a clock) is left alone.

    Args:
        run: The run; ``run.hooks_changed_by_forward`` is set.
        names: The hooks to look at; those without a state are left alone.

    Yields:
        Nothing.
    """
    before = _states_of(run, names)
    now = _states_of(run, before)
    steady = [name for name in before if not different_values(before[name], now[name])]
    try:
        yield
    finally:
        after = _states_of(run, steady)
        run.hooks_changed_by_forward = tuple(name for name in steady if different_values(before[name], after[name]))
        for name in run.hooks_changed_by_forward:
            _load(run, name, before[name])


def copier_of(run: Run) -> NetworkCopier:
    """Returns a copier of the run's network.

    Args:
        run: The run.

    Raises:
        StepError: If the run has no network.
    """
    return NetworkCopier(network_of(run))


def _states_of(run: Run, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    hooks = {name: run.hooks[name] for name in names}
    return {name: copy.deepcopy(hook.state_dict()) for name, hook in hooks.items() if isinstance(hook, Stateful)}


def _load(run: Run, name: str, state: Mapping[str, Any]) -> None:
    hook = run.hooks[name]
    if isinstance(hook, Stateful):
        hook.load_state_dict(copy.deepcopy(state))
