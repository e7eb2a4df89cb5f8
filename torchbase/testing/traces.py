"""Where two runs part: what an iteration works with, looked at again and again in both."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.plugins import EVENT_NAMES
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of, optimizer_of
from torchbase.files.bitwise import different_values
from torchbase.randomness import capture_streams

RANDOM_STREAMS = "random streams"
MODE = "mode of the network"
# Those go around others or are told at any time, so a hook may do something in them wherever two runs part.
EVERYWHERE = ("run_phase", "run_iteration", "log_")


@dataclass(frozen=True)
class Point:
    """A point in a run.

    Attributes:
        event: The event that was told there.
        phase: The name of the phase.
        iteration: The iteration of the phase, counted over the whole run.
    """

    event: str
    phase: str
    iteration: int

    def __str__(self) -> str:
        """Names it in a message."""
        return self.event if self.event == "on_run_end" else f"{self.event} of {self.phase} iteration {self.iteration}"


@dataclass
class Trace:
    """Notes at several points of each iteration what it works with: a checksum for each tensor.

    Attributes:
        points: The checksums by what they are of, for each point.
    """

    name = "trace (of the checks)"
    points: dict[Point, dict[str, Any]] = field(default_factory=dict)

    # All of them last, so that the hook that is looked at has done what it does there.
    @hookimpl(trylast=True)
    def on_iteration_start(self, run: Run, phase: Phase) -> None:
        """Notes what the iteration begins with; the random streams are seeded afterwards."""
        self._note("on_iteration_start", run, phase, iteration=phase.progress.iterations + 1)

    @hookimpl(trylast=True)
    def on_loss_computed(self, run: Run, phase: Phase, loss: torch.Tensor) -> None:
        """Notes what the forward pass has come to."""
        more = {"loss": loss, RANDOM_STREAMS: _streams(run)}
        self._note("on_loss_computed", run, phase, phase.progress.iterations + 1, more)

    @hookimpl(trylast=True)
    def on_gradients_ready(self, run: Run) -> None:
        """Notes what the backward pass has come to."""
        more = {RANDOM_STREAMS: _streams(run)}
        self._note("on_gradients_ready", run, run.training, run.progress.iterations + 1, more)

    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Notes what was learnt."""
        self._note("on_iteration_end", run, phase, phase.progress.iterations)

    @hookimpl(trylast=True)
    def on_run_end(self, run: Run) -> None:
        """Notes what the run ends with."""
        self._note("on_run_end", run, run.training, run.progress.iterations)

    def _note(self, event: str, run: Run, phase: Phase, iteration: int, more: Mapping[str, Any] | None = None) -> None:
        network = network_of(run)
        looked_at = {
            "network": network.state_dict(),
            MODE: {name: module.training for name, module in network.named_modules()},
            "gradients": {name: one.grad for name, one in network.named_parameters()},
            "optimizer": optimizer_of(run).state_dict(),
            **(more or {}),
        }
        self.points[Point(event, phase.name, iteration)] = _checksums(looked_at)


@dataclass(frozen=True)
class Divergence:
    """Where two runs part.

    Attributes:
        before: The last point at which they agreed; None if they never did.
        at: The first point at which they differ.
        what: Each thing that differs there: the network, the random streams and so on, and its name in that.
    """

    before: Point | None
    at: Point
    what: tuple[tuple[str, str], ...]

    def is_in(self, part: str) -> bool:
        """Tells whether they differ in a part.

        Args:
            part: The network, the random streams and so on.
        """
        return any(part == one for one, _ in self.what)

    def events_between(self, events: list[str]) -> list[str]:
        """Gives those of a hook's events that were told between the two points, or may have been.

        Args:
            events: The events that the hook implements.
        """
        first = 0 if self.before is None else EVENT_NAMES.index(self.before.event)
        last = EVENT_NAMES.index(self.at.event)
        between = range(first, last + 1) if first <= last else (*range(first, len(EVENT_NAMES)), *range(last + 1))
        told = {EVENT_NAMES[number] for number in between}
        return [event for event in events if event in told or event.startswith(EVERYWHERE)]


def find_divergence(expected: Trace, got: Trace) -> Divergence | None:
    """Finds where a run parts from another.

    Args:
        expected: The one.
        got: The other.

    Returns:
        The first point at which they differ; None if they don't at any that both have.
    """
    before = None
    for point, sums in expected.points.items():
        other = got.points.get(point)
        if other is None:
            continue
        names = different_values(sums, other)
        if names:
            parts = (name.partition(".") for name in names)
            return Divergence(before, point, tuple((part, name) for part, _, name in parts))
        before = point
    return None


def _streams(run: Run) -> dict[str, str]:
    return {name: str(_checksums(state)) for name, state in capture_streams(run.device).items()}


def _checksums(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _checksums(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_checksums(one) for one in value]
    if isinstance(value, torch.Tensor):
        dense = value.detach() if value.layout is torch.strided else value.detach().to_dense()
        return zlib.crc32(dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return value
