"""One pass over one set of data: what gives its mini-batches, and how far it is."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch

from torchbase.engine.iteration_values import ValueBlock
from torchbase.intervals import Interval

EVERY_EPOCH = Interval(1, "ep")


@runtime_checkable
class SeekableLoader(Protocol):
    """A loader that knows its epochs and can begin in the middle of one."""

    def mini_batches(self, epoch: int, start: int) -> Iterator[Any]:
        """Gives the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            start: How many of its mini-batches to pass over, without reading them.
        """


@dataclass
class Progress:
    """How far a phase is.

    Attributes:
        iterations: Iterations done in the whole run.
        mini_batches: Mini-batches done in this epoch.
        is_done: Whether the phase has been through all mini-batches of this epoch.
        done_after: How many training iterations were done when it last was.
    """

    iterations: int = 0
    mini_batches: int = 0
    is_done: bool = False
    done_after: int = 0


@dataclass(frozen=True)
class ValueNames:
    """The names of the values that a phase gives, so far as a single mini-batch shows them.

    Attributes:
        of_iterations: Those of an iteration.
        of_epochs: Those of an epoch.
    """

    of_iterations: tuple[str, ...]
    of_epochs: tuple[str, ...]


@dataclass
class Phase:
    """One pass over one set of data in each epoch: training, or one of the validation sets.

    Attributes:
        name: ``training``, or ``validation-NAME``. Its values are logged under this name.
        loader: What gives the mini-batches of an epoch. Any iterable will do; a `SeekableLoader` is resumed in the
            middle of an epoch without reading what came before.
        is_training: Whether the network learns from it.
        votes: Whether it takes part in the decision on the best network.
        every: How often a validation phase is run: at the end of every n-th epoch, or in the training phase, behind
            every n-th training iteration of the run; and at the end of the last epoch.
        progress: How far it is.
        outputs: What ``forward_pass`` returned for the current mini-batch; None between iterations.
        loss: The loss of the current mini-batch, detached, shape (); None between iterations.
        samples: How many samples the current mini-batch holds.
        values: What is logged of the current iteration, by name: numbers, or tensors of shape () on their device.
        averages: The averages of the last epoch that is done, by name.
        value_names: How its values will be named, as the rehearsal saw it; None where it wasn't rehearsed.
    """

    name: str
    loader: Iterable[Any]
    is_training: bool = False
    votes: bool = False
    every: Interval = EVERY_EPOCH
    progress: Progress = field(default_factory=Progress)
    outputs: Mapping[str, Any] | None = None
    loss: torch.Tensor | None = None
    samples: int = 1
    values: dict[str, torch.Tensor | float] = field(default_factory=dict)
    averages: dict[str, float] = field(default_factory=dict)
    value_names: ValueNames | None = None
    block: ValueBlock = field(default_factory=ValueBlock, repr=False)

    def mini_batches(self, epoch: int) -> Iterator[Any]:
        """Gives the mini-batches of an epoch that are still to be done.

        Args:
            epoch: The epoch; the first is 1.

        Returns:
            An iterator that begins where `progress` stands.
        """
        if isinstance(self.loader, SeekableLoader):
            return self.loader.mini_batches(epoch, self.progress.mini_batches)
        return islice(iter(self.loader), self.progress.mini_batches, None)

    @property
    def is_within_training(self) -> bool:
        """Whether it is run within the training phase, and its curves count training iterations."""
        return self.every.unit == "it"

    def tag(self, name: str, unit: str) -> str:
        """Gives the tag under which a value is logged.

        Args:
            name: The name of the value, e.g. ``loss``.
            unit: What the steps count: ``iterations`` of the phase, ``epochs``, or ``training_iterations``.
        """
        return f"{self.name}/{name}/{unit}"

    def store_values(self) -> None:
        """Moves the values of the iteration that is done to the block, where they wait to be read."""
        if self.values:
            self.block.append(self.progress.iterations, self.progress.mini_batches, self.samples, self.values)
            self.values = {}
