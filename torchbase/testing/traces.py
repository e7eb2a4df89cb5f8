"""Where two runs diverge: checksums of what an iteration uses, at several points of both runs."""

import zlib
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from torchbase.engine.hook_checks import EVENT_NAMES
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, optimizer_of
from torchbase.files.bitwise import different_values
from torchbase.randomness.streams import capture_streams

RANDOM_STREAMS = "random streams"
MODE = "mode of the network"
# These wrap other events or fire at any time, so a hook may act in them wherever two runs diverge.
ANYTIME = ("run_phase", "run_iteration", "log_")


@dataclass(frozen=True)
class Point:
    """A point in a run.

    Attributes:
        event: The event at this point.
        phase: The name of the phase.
        iteration: The iteration of the phase, counted over the whole run.
        part: The number of the part of the mini-batch; None if the point isn't within a part.
    """

    event: str
    phase: str
    iteration: int
    part: int | None = None

    def __str__(self) -> str:
        """Formats the point for a message."""
        if self.event == "on_run_end":
            return self.event
        part = "" if self.part is None else f", part {self.part}"
        return f"{self.event} of {self.phase} iteration {self.iteration}{part}"


@dataclass
class Trace:
    """Records what an iteration uses, at several points of each iteration: a checksum for each tensor.

    Attributes:
        points: The checksums by name, for each point.
    """

    name = "trace (of the checks)"
    points: dict[Point, dict[str, Any]] = field(default_factory=dict)
    _part: int | None = field(default=None, init=False, repr=False)

    @hookimpl(wrapper=True)
    def run_part(self, part: int) -> Generator[None, Any, Any]:
        """Notes the part to which the points within it belong."""
        self._part = part
        try:
            return (yield)
        finally:
            self._part = None

    # All of them last, after the checked hook.
    @hookimpl(trylast=True)
    def on_iteration_start(self, run: Run, phase: Phase) -> None:
        """Records the start of an iteration; the random streams are seeded afterwards."""
        self._add("on_iteration_start", run, phase, iteration=phase.progress.iterations + 1)

    @hookimpl(trylast=True)
    def on_loss_computed(self, run: Run, phase: Phase, loss: torch.Tensor) -> None:
        """Records the result of the forward pass."""
        more = {"loss": loss, RANDOM_STREAMS: _streams(run)}
        self._add("on_loss_computed", run, phase, phase.progress.iterations + 1, more)

    @hookimpl(trylast=True)
    def on_gradients_ready(self, run: Run) -> None:
        """Records the result of the backward pass."""
        more = {RANDOM_STREAMS: _streams(run)}
        self._add("on_gradients_ready", run, run.training, run.progress.iterations + 1, more)

    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Records the result of the iteration."""
        self._add("on_iteration_end", run, phase, phase.progress.iterations)

    @hookimpl(trylast=True)
    def on_run_end(self, run: Run) -> None:
        """Records the result of the run."""
        self._add("on_run_end", run, run.training, run.progress.iterations)

    def _add(self, event: str, run: Run, phase: Phase, iteration: int, more: Mapping[str, Any] | None = None) -> None:
        network = network_of(run)
        values = {
            "network": network.state_dict(),
            MODE: {name: module.training for name, module in network.named_modules()},
            "gradients": {name: parameter.grad for name, parameter in network.named_parameters()},
            "optimizer": optimizer_of(run).state_dict(),
            **(more or {}),
        }
        self.points[Point(event, phase.name, iteration, self._part)] = _checksums(values)


class ProcessTrace(Trace):
    """Also records what has to be equal on several processes: logged values, averages, and what may be drawn next."""

    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Records the result of the iteration, and its values."""
        # As numbers: some are tensors on one process only.
        more = {"values": {name: float(value) for name, value in phase.values.items()}, RANDOM_STREAMS: _streams(run)}
        self._add("on_iteration_end", run, phase, phase.progress.iterations, more)

    @hookimpl(trylast=True)
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Records the averages of the phase."""
        more = {"averages": dict(phase.averages), RANDOM_STREAMS: _streams(run)}
        self._add("on_phase_end", run, phase, phase.progress.iterations, more)

    @hookimpl(trylast=True)
    def on_epoch_end(self, run: Run) -> None:
        """Records the result of the epoch."""
        self._add("on_epoch_end", run, run.training, run.progress.iterations, {RANDOM_STREAMS: _streams(run)})


@dataclass(frozen=True)
class Divergence:
    """Where two runs diverge.

    Attributes:
        before: The last point at which the runs agree; None if they never do.
        at: The first point at which they differ.
        what: The part (the network, the random streams and so on) and name of each difference at that point.
    """

    before: Point | None
    at: Point
    what: tuple[tuple[str, str], ...]

    def is_in(self, part: str) -> bool:
        """Whether the runs differ in a part.

        Args:
            part: The network, the random streams and so on.
        """
        return any(part == different for different, _ in self.what)

    def events_between(self, events: list[str]) -> list[str]:
        """Returns the events of a hook that fired between the two points, or may have fired.

        Args:
            events: The events that the hook implements.
        """
        first = 0 if self.before is None else EVENT_NAMES.index(self.before.event)
        if self.before is not None and None not in (self.before.part, self.at.part):
            first = EVENT_NAMES.index("run_part")  # from one part to the next
        last = EVENT_NAMES.index(self.at.event)
        between = range(first, last + 1) if first <= last else (*range(first, len(EVENT_NAMES)), *range(last + 1))
        possible = {EVENT_NAMES[number] for number in between}
        return [event for event in events if event in possible or event.startswith(ANYTIME)]


def find_divergence(expected: Trace, got: Trace, ignored: Collection[tuple[str, str]] = ()) -> Divergence | None:
    """Finds where two runs diverge.

    Args:
        expected: The first run.
        got: The second run.
        ignored: The part and name of what may differ.

    Returns:
        The first point at which they differ; None if all their common points are equal.
    """
    before = None
    for point, found in _differences(expected, got):
        what = tuple(one for one in found if one not in ignored)
        if what:
            return Divergence(before, point, what)
        before = point
    return None


def find_all_differences(expected: Trace, got: Trace) -> set[tuple[str, str]]:
    """Finds what differs between two runs at any point.

    Args:
        expected: The first run.
        got: The second run.

    Returns:
        The part and name of each difference.
    """
    return {one for _, found in _differences(expected, got) for one in found}


def _differences(expected: Trace, got: Trace) -> Iterator[tuple[Point, list[tuple[str, str]]]]:
    for point, sums in expected.points.items():
        if point in got.points:
            parts = (name.partition(".") for name in different_values(sums, got.points[point]))
            yield point, [(part, name) for part, _, name in parts]


def _streams(run: Run) -> dict[str, str]:
    return {name: str(_checksums(state)) for name, state in capture_streams(run.device).items()}


def _checksums(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _checksums(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_checksums(item) for item in value]
    if isinstance(value, torch.Tensor):
        dense = value.detach() if value.layout is torch.strided else value.detach().to_dense()
        return zlib.crc32(dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return value
