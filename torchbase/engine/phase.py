"""A phase: one pass over one dataset, with its loader and its progress."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch

from torchbase.data.loader import MiniBatchLoader
from torchbase.engine.iteration_values import LossWeight, ValueBlock
from torchbase.intervals import Interval

EVERY_EPOCH = Interval(1, "ep")
ReadingObserver = Callable[[Iterator[Any]], Iterator[Any]]


@runtime_checkable
class SeekableLoader(Protocol):
    """A loader that can start in the middle of any epoch."""

    def mini_batches(self, epoch: int, start: int) -> Iterator[Any]:
        """Iterates over the mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.
            start: The number of mini-batches to skip without reading them.
        """


@dataclass
class Progress:
    """The progress of a phase.

    Attributes:
        iterations: The number of finished iterations in the whole run.
        mini_batches: The number of finished mini-batches in this epoch.
        is_done: Whether all mini-batches of this epoch are finished.
        done_after: The number of finished training iterations when the phase was last done, or, in training, when it
            was cut short by the last iteration of the run.
    """

    iterations: int = 0
    mini_batches: int = 0
    is_done: bool = False
    done_after: int = 0


@dataclass(frozen=True)
class ValueNames:
    """The names of the values of a phase, as found by running a single mini-batch.

    Attributes:
        of_iterations: The names of the values of an iteration.
        of_epochs: The names of the averages of an epoch.
    """

    of_iterations: tuple[str, ...]
    of_epochs: tuple[str, ...]


class PartOutputs(NamedTuple):
    """The outputs of a part of a mini-batch.

    Attributes:
        size: The number of samples of the part.
        outputs: What ``forward_pass`` returned, detached.
        number: The number of the part.
    """

    size: int
    outputs: Mapping[str, Any]
    number: int = 0


@dataclass
class Phase:
    """One pass over one dataset in each epoch: training, or one of the validation sets.

    Attributes:
        name: ``training``, or ``validation-NAME``. The values of the phase are logged under this name.
        loader: An iterable of the mini-batches of an epoch. A `SeekableLoader` resumes in the middle of an epoch
            without reading the mini-batches before.
        is_training: Whether the network is trained in this phase.
        votes: Whether the phase votes on the best network.
        every: How often a validation phase runs: after every n-th epoch, or within training, after every n-th training
            iteration of the run. It also runs at the end of the last epoch.
        progress: The progress of the phase.
        outputs: The outputs that ``forward_pass`` returned for the current mini-batch; None between iterations.
            With several processes, those of the parts of this process; `outputs_of_all_parts` has the others.
        parts: With several processes, the parts of the current mini-batch that this process has computed.
        loss: The loss of the current mini-batch, detached, shape (); None between iterations, and in a validation
            without a loss.
        samples: The number of samples in the current mini-batch.
        loss_weight: How much the current mini-batch weighs in averages of its loss; None for its samples.
        weights_of_turns: The same for each turn of several optimizers, by the names that the turns log.
        values: The logged values of the current iteration, by name: numbers, or tensors of shape () on their device.
        averages: The averages of the last finished pass, by name.
        value_names: The names that the values will have, as the rehearsal found them; None without a rehearsal.
        reading_observers: Functions that observe how the loop reads the mini-batches. Each takes an iterator, and
            returns one of the same mini-batches. A hook adds its own at `on_run_start`, and removes it at the end.
    """

    name: str
    loader: Iterable[Any]
    is_training: bool = False
    votes: bool = False
    every: Interval = EVERY_EPOCH
    progress: Progress = field(default_factory=Progress)
    outputs: Mapping[str, Any] | None = None
    parts: Sequence[PartOutputs] = ()
    loss: torch.Tensor | None = None
    samples: int = 1
    loss_weight: LossWeight | None = None
    weights_of_turns: tuple[LossWeight, ...] = ()
    values: dict[str, torch.Tensor | float] = field(default_factory=dict)
    averages: dict[str, float] = field(default_factory=dict)
    value_names: ValueNames | None = None
    reading_observers: list[ReadingObserver] = field(default_factory=list, repr=False)
    block: ValueBlock = field(default_factory=ValueBlock, repr=False)

    def mini_batches(self, epoch: int) -> Iterator[Any]:
        """Returns the remaining mini-batches of an epoch.

        Args:
            epoch: The epoch; the first is 1.

        Returns:
            An iterator that starts after the finished mini-batches.
        """
        if isinstance(self.loader, SeekableLoader):
            batches = self.loader.mini_batches(epoch, self.progress.mini_batches)
        else:
            batches = islice(iter(self.loader), self.progress.mini_batches, None)
        for observe in self.reading_observers:
            batches = observe(batches)
        return batches

    def count_mini_batches(self, epoch: int) -> int | None:
        """Returns the number of mini-batches in an epoch; None if the loader doesn't know it.

        Args:
            epoch: The epoch; the first is 1.
        """
        if isinstance(self.loader, MiniBatchLoader):
            return self.loader.count_mini_batches(epoch)
        try:
            return len(self.loader)  # type: ignore[arg-type]
        except TypeError:  # a stream, or another iterable without a length
            return None

    def is_at_end_of(self, epoch: int) -> bool:
        """Whether all mini-batches of the current epoch are finished. False if the loader doesn't know their number.

        Args:
            epoch: The current epoch.
        """
        count = self.count_mini_batches(epoch)
        return count is not None and self.progress.mini_batches >= count

    @property
    def weight(self) -> torch.Tensor | float:
        """How much the current mini-batch weighs in averages of its loss: by default, its samples."""
        return self.samples if self.loss_weight is None else self.loss_weight.value

    @property
    def is_within_training(self) -> bool:
        """Whether the phase runs within training. The steps of its curves are then training iterations."""
        return self.every.unit == "it"

    def tag(self, name: str, unit: str) -> str:
        """Returns the tag under which a value is logged.

        Args:
            name: The name of the value, such as ``loss``.
            unit: The unit of the steps: ``iterations`` of the phase, ``epochs``, or ``training_iterations``.
        """
        return f"{self.name}/{name}/{unit}"

    def store_values(self) -> None:
        """Moves the values of the finished iteration to the block, which is read later."""
        if self.values:
            done, weights = self.progress, self.weights_of_turns
            if not weights and self.loss_weight is not None:
                weights = (self.loss_weight,)
            self.block.append(done.iterations, done.mini_batches, self.samples, self.values, weights)
            self.values = {}
