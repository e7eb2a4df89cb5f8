"""Turns: with several optimizers, each training iteration trains with one of them after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from torchbase.engine.named_optimizers import NamedOptimizers
from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import StepError, describe_returned, did_you_mean
from torchbase.metrics.selection import NAME_OF_THE_LOSS
from torchbase.randomness import seed_streams

ChooseTurns = Callable[[int], Sequence[str]]
Values = dict[str, torch.Tensor | float]


class Turns:
    """Runs each training iteration once for each optimizer that has a turn in it.

    In a turn, ``run.turn`` is the name of the optimizer and ``run.optimizer`` the optimizer itself. The parameters of
    the others require no gradient, and their accumulated gradients are out of sight. The random numbers of a turn
    depend on the seed, the iteration and the name. What a turn logs has its name at the end: ``loss_generator``. After
    the iteration, ``phase.outputs`` and ``phase.loss`` are those of its last turn.

    Attributes:
        names: The names of the optimizers, in the order of their turns.
    """

    def __init__(self, optimizers: NamedOptimizers, choose: ChooseTurns | None = None) -> None:
        """Sets the optimizers.

        Args:
            optimizers: The optimizers.
            choose: Takes the number of a training iteration, from 1, and returns the names of the optimizers that have
                a turn in it, in order. It has to depend on nothing else, so that a resumed run is exact. None gives
                each a turn.
        """
        self.names = tuple(optimizers)
        self._optimizers, self._choose = optimizers, choose
        self._held = {name: held_parameters(optimizer) for name, optimizer in optimizers.items()}
        self._checked = [self.names]

    @property
    def losses(self) -> tuple[str, ...]:
        """The names of the losses that the turns log."""
        return tuple(name_in_turn(NAME_OF_THE_LOSS, name) for name in self.names)

    def of_iteration(self, iteration: int) -> tuple[str, ...]:
        """Returns the names of the optimizers that have a turn, in order.

        Args:
            iteration: The number of the training iteration, from 1.

        Raises:
            StepError: If there is none, one repeats, or a name isn't that of an optimizer.
        """
        if self._choose is None:
            return self.names
        chosen = self._choose(iteration)
        names = tuple(chosen) if isinstance(chosen, Sequence) and not isinstance(chosen, str) else None
        if names not in self._checked:
            self._checked.append(self._check(iteration, chosen))
        return names or ()

    def take(self, run: Run, phase: Phase, names: Sequence[str], train: Callable[[], object]) -> None:
        """Calls a function in each turn, and gives the values that it logs the names of the turns.

        Args:
            run: The run.
            phase: The training phase.
            names: The names of the optimizers that have a turn.
            train: The function.

        Raises:
            StepError: If two values would have the same name.
            Exception: Any error of the function, with a note on the turn.
        """
        values = phase.values
        for name in names:
            phase.values = {}
            with self._turn(run, phase, name):
                train()
            values = _merged(values, phase.values, name)
        phase.values = values

    @contextmanager
    def _turn(self, run: Run, phase: Phase, name: str) -> Iterator[None]:
        others = self._parameters_of_others(run, name)
        trained = [one for one in others if one.requires_grad]
        accumulated = [(one, one.grad) for one in others if one.grad is not None]
        run.turn, run.optimizer = name, self._optimizers[name]
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
            run.turn, run.optimizer = None, self._optimizers
            for parameter in trained:
                parameter.requires_grad_(True)
            for parameter, gradient in accumulated:
                parameter.grad = gradient

    def _parameters_of_others(self, run: Run, name: str) -> list[torch.Tensor]:
        of_network = () if run.network is None else run.network.parameters()
        every: dict[int, torch.Tensor] = {id(one): one for one in of_network}
        for held in self._held.values():
            every.update(held)
        return [one for number, one in every.items() if number not in self._held[name]]

    def _check(self, iteration: int, chosen: Any) -> tuple[str, ...]:
        available = ", ".join(map(repr, self.names))
        what = f"optimizer_turns returned for iteration {iteration}"
        to_fix = f"To fix, return some of the names {available}, each once, in the order of the turns."
        if isinstance(chosen, str) or not isinstance(chosen, Sequence):
            raise StepError(f"What {what} has to be a list of names, but is {describe_returned(chosen)}. {to_fix}")
        names = tuple(chosen)
        unknown = [name for name in names if name not in self.names]
        if unknown:
            hint = did_you_mean(unknown[0], self.names) if isinstance(unknown[0], str) else ""
            raise StepError(f"The names that {what} include {unknown[0]!r}, which is no optimizer.{hint} {to_fix}")
        if len(set(names)) < len(names) or not names:
            found = f"the list {list(names)}, with a name twice" if names else "an empty list, so nothing would train"
            raise StepError(f"What {what} is {found}. {to_fix}")
        return names


def name_in_turn(value: str, turn: str) -> str:
    """Returns the name that a value of a turn is logged under.

    Args:
        value: The name of the value, such as ``loss``.
        turn: The name of the optimizer.
    """
    return f"{value}_{turn}"


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
