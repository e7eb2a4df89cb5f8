"""Which of several optimizers have a turn in a training iteration."""

from collections.abc import Callable, Sequence
from typing import Any

from torchbase.engine.named_optimizers import NamedOptimizers
from torchbase.errors import StepError, describe_returned, did_you_mean
from torchbase.metrics.selection import NAME_OF_THE_LOSS

ChooseTurns = Callable[[int], Sequence[str]]


class Turns:
    """The turns of several optimizers: each training iteration runs once for each optimizer that has a turn in it.

    Attributes:
        names: The names of the optimizers, in the order of their turns.
        optimizers: The optimizers by name.
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
        self.optimizers, self._choose = optimizers, choose
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
