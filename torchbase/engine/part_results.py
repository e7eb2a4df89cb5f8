"""What the parts of a mini-batch leave on their phase, and what they give together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from torchbase.data.parts import average_values, count_samples, join_outputs
from torchbase.distributed.processes import Processes
from torchbase.engine.abandoned import IterationAbandonedError
from torchbase.engine.iteration_values import LossWeight
from torchbase.engine.loss_weights import Weight
from torchbase.engine.phase import PartOutputs, Phase
from torchbase.engine.run import Run


@dataclass
class LoggedParts:
    """What the parts of one process logged, as it is sent to the others.

    Attributes:
        numbers: The number of each part.
        sizes: The number of samples of each part.
        values: The logged values of each part, by name.
        losses: The loss of each part; empty for a part without one.
        weights: How much each part weighs in averages of its loss; empty for its samples.
        names: The names of the values that the weights hold for.
        dtype: The dtype of the losses; None without a part.
        abandoned: Why the iteration is abandoned, or None.
        note: What the process of the first part sends to the others.
    """

    numbers: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    losses: list[dict[str, Any]] = field(default_factory=list)
    weights: list[torch.Tensor | float] = field(default_factory=list)
    names: frozenset[str] = frozenset()
    dtype: torch.dtype | None = None
    abandoned: str | None = None
    note: Any = None


class PartResults:
    """Takes outputs, values and loss from a phase after each part, and sets those of the whole mini-batch."""

    def __init__(self, phase: Phase) -> None:
        """Begins a mini-batch.

        Args:
            phase: The phase. The values that it has now are set again at the end, beside those of the parts.
        """
        self._phase, self._logged_before = phase, phase.values
        self._outputs: list[dict[str, Any]] = []
        self._logged = LoggedParts()
        phase.values = {}

    def take(self) -> None:
        """Takes the results of a part, and empties the phase for the next one."""
        phase = self._phase
        self._outputs.append({name: _detached(value) for name, value in (phase.outputs or {}).items()})
        self._logged.values.append(phase.values)
        self._logged.losses.append({} if phase.loss is None else {"loss": phase.loss})
        self._logged.dtype = None if phase.loss is None else phase.loss.dtype
        if phase.loss_weight is not None:
            self._logged.names |= phase.loss_weight.names
        phase.outputs, phase.loss, phase.values = None, None, {}

    def drop(self) -> None:
        """Empties the phase of the results of a part that don't count."""
        self._phase.outputs, self._phase.loss, self._phase.values = None, None, {}

    def abandon(self, error: IterationAbandonedError) -> None:
        """Abandons the iteration: `join_all` raises an error on each process.

        Args:
            error: The error of a part.
        """
        self._logged.abandoned = str(error)

    def join(self, sizes: Sequence[int], weights: Sequence[Weight] = ()) -> torch.Tensor | None:
        """Sets the outputs, the values and the loss of the whole mini-batch on the phase.

        Args:
            sizes: The number of samples of each part, by which values and losses are averaged.
            weights: How much each part weighs in averages of its loss; empty for its samples.

        Returns:
            The loss.
        """
        self._logged.numbers, self._logged.sizes = list(range(len(sizes))), list(sizes)
        self._logged.weights = list(weights)
        self._set_outputs()
        self._set_values([self._logged], None)
        return self._phase.loss

    def to_send(
        self, run: Run, sizes: Mapping[int, int], note: Any = None, weights: Mapping[int, Weight] | None = None
    ) -> LoggedParts:
        """Returns what the other processes need for `join_all`.

        Args:
            run: The run.
            sizes: The number of samples of each part of this process, by the number of the part.
            note: What the process of the first part sends to the others.
            weights: How much each part weighs in averages of its loss; None for its samples.
        """
        self._logged.weights = [] if weights is None else [weights[number] for number in sizes]
        self._logged.numbers, self._logged.sizes, self._logged.note = list(sizes), list(sizes.values()), note
        if run.processes.count > 1:
            self._logged.values = _numbers(self._logged.values)
            self._logged.losses = _numbers(self._logged.losses)
        return self._logged

    def join_all(self, run: Run, every: Sequence[LoggedParts], source: int = 0) -> Any:
        """As `join`, for the parts of all processes. The outputs are those of this process.

        Args:
            run: The run.
            every: What `to_send` returned, by process.
            source: The index of the process of the first part.

        Returns:
            The note of the process of the first part.

        Raises:
            IterationAbandonedError: If a part of any process abandons the iteration.
        """
        for one in every:
            if one.abandoned is not None:
                raise IterationAbandonedError(one.abandoned)
        self._set_outputs()
        self._set_values(every, run.device)
        if run.processes.count > 1:
            self._phase.parts = tuple(map(PartOutputs, self._logged.sizes, self._outputs, self._logged.numbers))
        return every[source].note

    def _set_outputs(self) -> None:
        self._phase.outputs = join_outputs(self._outputs, self._logged.sizes) if self._outputs else {}

    def _set_values(self, every: Sequence[LoggedParts], device: torch.device | None) -> None:
        parts = [
            part
            for one in every
            for part in zip(one.numbers, one.sizes, one.weights or one.sizes, one.values, one.losses, strict=True)
        ]
        parts.sort(key=lambda part: part[0])  # the order of additions decides the last bits
        _, sizes, weights, logged, losses = zip(*parts, strict=True) if parts else [()] * 5
        names = frozenset[str]().union(*(one.names for one in every))
        values = average_values(logged, sizes, weights, names)
        loss = average_values(losses, weights).get("loss")
        if any(one.weights for one in every):
            self._phase.loss_weight = LossWeight(sum(weights), names)
        dtype = next((one.dtype for one in every if one.dtype is not None), None)
        self._phase.values = {**self._logged_before, **values}
        self._phase.loss = None if loss is None else torch.as_tensor(loss, dtype=dtype, device=device)


def outputs_of_all_parts(run: Run, phase: Phase, names: Iterable[str]) -> Mapping[str, Any]:
    """Returns outputs of the whole mini-batch, over all processes. All processes have to call it.

    Args:
        run: The run.
        phase: The phase, after its parts were computed.
        names: The names of the outputs that are needed. One that no process has is left out.

    Returns:
        The outputs by name. With a single process, these are all of ``phase.outputs``.

    Raises:
        ProcessError: If another process has ended or doesn't answer.
    """
    if run.processes.count == 1:
        return phase.outputs or {}
    wanted, outputs = list(names), phase.outputs or {}
    # A hook that runs the iterations in place of MiniBatchParts sets the outputs of its process alone.
    parts = phase.parts or ([PartOutputs(count_samples(outputs), outputs)] if outputs else [])
    own = [
        part._replace(outputs={name: part.outputs[name] for name in wanted if name in part.outputs}) for part in parts
    ]
    return gather_outputs(run.processes, own, run.device, f"the outputs of a mini-batch of {phase.name}")[1]


def gather_outputs(
    processes: Processes, own: Sequence[PartOutputs], device: torch.device, purpose: str
) -> tuple[int, dict[str, Any]]:
    """Joins the values of the parts of all processes. All processes have to call it.

    Args:
        processes: The processes.
        own: The values of the parts of this process.
        device: The device of the tensors that other processes have on theirs. Tensors on the CPU stay there.
        purpose: What the values are, for the error if another process is elsewhere.

    Returns:
        The number of samples of all parts, and the joined values by name.

    Raises:
        ProcessError: If another process has ended or doesn't answer.
    """
    on_device = {name for part in own for name, value in part.outputs.items() if _is_on_device(value)}
    gathered = processes.gather((list(own), on_device), purpose)
    every = sorted((part for parts, _ in gathered for part in parts), key=lambda part: part.number)
    sizes = [part.size for part in every]
    joined = join_outputs([part.outputs for part in every], sizes) if every else {}
    for name in joined.keys() & set().union(*(names for _, names in gathered)):
        joined[name] = torch.as_tensor(joined[name], device=device)
    return sum(sizes), joined


def _is_on_device(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type != "cpu"


def _numbers(logged: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in values.items()} for values in logged]


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value
