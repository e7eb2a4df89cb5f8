"""Several optimizers of one network, each with a name."""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import torch

from torchbase.errors import StepError, did_you_mean


class NamedOptimizers(torch.optim.Optimizer, Mapping[str, torch.optim.Optimizer]):
    """The optimizers of a run by name, which take turns in each training iteration.

    ``run.optimizer`` is this object outside of turns, and the optimizer of the turn within one. It has the parameter
    groups of all of them, so that hooks find each parameter that is trained. `take_turns` steps each by itself.

    Attributes:
        by_name: The optimizers, in the order of their turns.
    """

    def __init__(self, by_name: Mapping[str, torch.optim.Optimizer]) -> None:
        """Stores the optimizers.

        Args:
            by_name: The optimizers, in the order of their turns.
        """
        # Not that of Optimizer: it would make groups of its own, and no event of torch fires for all at once.
        self.by_name = dict(by_name)

    def __getitem__(self, name: str) -> torch.optim.Optimizer:
        """Returns an optimizer.

        Args:
            name: Its name.

        Raises:
            KeyError: If there is none of this name.
        """
        if name not in self.by_name:
            raise KeyError(f"There is no optimizer {name!r}.{did_you_mean(name, self.by_name)}")
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names, in the order of the turns."""
        return iter(self.by_name)

    def __len__(self) -> int:
        """Returns the number of optimizers."""
        return len(self.by_name)

    def __repr__(self) -> str:
        """Returns each optimizer with its name."""
        return "\n".join(f"{name}: {optimizer!r}" for name, optimizer in self.by_name.items())

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The parameter groups of all optimizers, in order."""
        return [group for optimizer in self.by_name.values() for group in optimizer.param_groups]

    @property
    def state(self) -> dict[torch.Tensor, Any]:  # type: ignore[override]
        """The state of each parameter."""
        return {one: state for optimizer in self.by_name.values() for one, state in optimizer.state.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of each optimizer by name."""
        return {name: optimizer.state_dict() for name, optimizer in self.by_name.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores the state of each optimizer.

        Args:
            state_dict: What `state_dict` returned.
        """
        for name, optimizer in self.by_name.items():
            optimizer.load_state_dict(state_dict[name])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients of all parameters.

        Args:
            set_to_none: Whether they are None afterwards, in place of zeros.
        """
        for optimizer in self.by_name.values():
            optimizer.zero_grad(set_to_none)

    def step(self, closure: object = None) -> NoReturn:
        """Raises an error, since each optimizer has a turn of its own.

        Args:
            closure: Not used.

        Raises:
            StepError: Always.
        """
        raise StepError(
            f"The optimizers {', '.join(map(repr, self.by_name))} can't be stepped at once, since each is stepped with "
            "the gradients of its own turn. To fix, step one by its name, such as "
            f"run.optimizer[{next(iter(self.by_name), 'name')!r}].step()."
        )


def by_name(optimizer: torch.optim.Optimizer | None) -> dict[str | None, torch.optim.Optimizer]:
    """Returns the optimizers of a run by name.

    Args:
        optimizer: ``run.optimizer``.

    Returns:
        The named optimizers; a single one has the name None. Without an optimizer, this is empty.
    """
    if isinstance(optimizer, NamedOptimizers):
        return dict(optimizer.by_name.items())
    return {} if optimizer is None else {None: optimizer}


def place_of_group(optimizer: torch.optim.Optimizer, number: int) -> str:
    """Describes a parameter group, for a message.

    Args:
        optimizer: The optimizer of the run.
        number: The index of the group among ``optimizer.param_groups``.

    Returns:
        Text that follows a word, with a space before it; empty for the only group of the only optimizer.
    """
    for name, one in by_name(optimizer).items():
        if number < len(one.param_groups):
            group = f" in parameter group {number}" if len(one.param_groups) > 1 else ""
            return group if name is None else f"{group} of '{name}'"
        number -= len(one.param_groups)
    raise IndexError(number)
