"""Takes the turns of several optimizers: each trains with the gradients of its own parameters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from torchbase.engine.iteration_values import LossWeight
from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.turns import Turns, name_in_turn
from torchbase.errors import StepError
from torchbase.metrics.selection import NAME_OF_THE_LOSS
from torchbase.randomness.streams import seed_streams

Values = dict[str, torch.Tensor | float]


def take_turns(run: Run, phase: Phase, turns: Turns, names: Sequence[str], train: Callable[[], object]) -> None:
    """Calls a function in each turn, and gives the values that it logs the names of the turns.

    In a turn, ``run.turn`` is the name of the optimizer and ``run.optimizer`` the optimizer itself. The parameters of
    the others require no gradient, and their accumulated gradients are out of sight. The random numbers of a turn
    depend on the seed, the iteration and the name. What a turn logs has its name at the end: ``loss_generator``.
    Afterwards ``phase.outputs`` and ``phase.loss`` are those of the last turn.

    Args:
        run: The run.
        phase: The training phase.
        turns: The optimizers.
        names: The names of those that have a turn.
        train: The function.

    Raises:
        StepError: If two values would have the same name.
        Exception: Any error of the function, with a note on the turn.
    """
    values = phase.values
    weights: list[LossWeight] = []
    for name in names:
        phase.values, phase.loss_weight = {}, None
        with _turn(run, phase, turns, name):
            train()
        values = _merged(values, phase.values, name)
        if phase.loss_weight is not None:  # it can depend on the turn
            of_turn = frozenset(name_in_turn(one, name) for one in phase.loss_weight.names)
            weights.append(phase.loss_weight._replace(names=of_turn))
    phase.values, phase.weights_of_turns = values, tuple(weights)


@contextmanager
def _turn(run: Run, phase: Phase, turns: Turns, name: str) -> Iterator[None]:
    others = _parameters_of_others(run, turns, name)
    trained = [one for one in others if one.requires_grad]
    accumulated = [(one, one.grad) for one in others if one.grad is not None]
    run.turn, run.optimizer = name, turns.optimizers[name]
    for parameter in trained:
        parameter.requires_grad_(False)
    for parameter, _ in accumulated:
        parameter.grad = None
    if run.randomness is not None:
        seed_streams(run.randomness.derive("turn", phase.name, phase.progress.iterations, name), run.device)
    try:
        yield
    except Exception as error:
        error.add_note(f"in the turn of '{name}'")
        raise
    finally:
        run.turn, run.optimizer = None, turns.optimizers
        for parameter in trained:
            parameter.requires_grad_(True)
        for parameter, gradient in accumulated:
            parameter.grad = gradient


def _parameters_of_others(run: Run, turns: Turns, name: str) -> list[torch.Tensor]:
    every: dict[int, torch.Tensor] = held_parameters(turns.optimizers)
    if run.network is not None:
        every.update((id(one), one) for one in run.network.parameters())
    own = held_parameters(turns.optimizers[name])
    return [one for number, one in every.items() if number not in own]


def names_of_losses(run: Run) -> tuple[str, ...]:
    """Returns the names of the losses that a training iteration logs.

    Args:
        run: The run.
    """
    return (NAME_OF_THE_LOSS,) if run.turns is None else run.turns.losses


def _merged(values: Mapping[str, torch.Tensor | float], of_turn: Values, turn: str) -> Values:
    named = {name_in_turn(name, turn): value for name, value in of_turn.items()}
    if taken := sorted(named.keys() & values.keys()):
        raise StepError(
            f"The turn of '{turn}' logs '{taken[0]}', which is the name of a value that the iteration has. What a turn "
            "logs has the name of its optimizer at the end. To fix, rename the value or the optimizer."
        )
    return {**values, **named}
