"""The trace of some iterations: hashes of the state after each call of a hook, in a file that is read without torch.

Each line of ``trace.jsonl`` is a step: the iteration, the hook and the event, and the hashes of the parts of the state,
as in ``fingerprints.jsonl``. The first step of an iteration has no hook, and the hashes of the rows of the mini-batch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import os_errors_explained
from torchbase.files.json_lines import append_line
from torchbase.run_directory.hashed_parts import Parts, PartsInLines, describe_names, different_names

MINI_BATCH = "mini-batch"
_STAGES = {
    "run_forward": "the forward pass",
    "run_backward": "the backward pass",
    "run_optimizer_step": "the optimizer step",
}
_TRAINING_STEP = "training_step"


@dataclass(frozen=True)
class Step:
    """The state after a call of a hook.

    Attributes:
        iteration: The training iteration; the first is 1.
        hook: The name of the hook; empty at the start of an iteration.
        event: The event.
        parts: The hashes by part: the mini-batch, the outputs, gradients, network, optimizer and random streams.
    """

    iteration: int
    hook: str
    event: str
    parts: Parts

    @property
    def call(self) -> tuple[int, str, str]:
        """The iteration, the hook and the event."""
        return self.iteration, self.hook, self.event

    def __str__(self) -> str:
        """Describes what has happened before this step."""
        if not self.hook:
            return "the start of the iteration"
        stage = _STAGES.get(self.event) if self.hook == _TRAINING_STEP else None
        return f"{self.event} of the hook '{self.hook}'" if stage is None else f"{stage} ({self.event})"


class TraceFile:
    """A trace that is being written."""

    def __init__(self, path: Path) -> None:
        """Sets the file.

        Args:
            path: The file, which isn't there yet.
        """
        self._path, self._in_lines = path, PartsInLines()

    def append(self, step: Step) -> None:
        """Appends a step.

        Args:
            step: The step.

        Raises:
            RunDirectoryError: If the operating system reports an error.
        """
        place: dict[str, Any] = {"iteration": step.iteration, "hook": step.hook, "event": step.event}
        append_line(self._path, place | self._in_lines.to_json(step.parts))
        self._in_lines.note(step.parts)


def read_trace(path: Path) -> list[Step]:
    """Reads a trace.

    Args:
        path: The file.

    Returns:
        Its steps. The last line is left out if it is incomplete.

    Raises:
        RunDirectoryError: If it can't be read, or isn't a trace.
    """
    with os_errors_explained("read", path):
        lines = path.read_bytes().splitlines(keepends=True)
    in_lines, steps = PartsInLines(), []
    for number, line in enumerate((one for one in lines if one.endswith(b"\n")), start=1):
        try:
            value = json.loads(line)
            parts = in_lines.from_json(value)
            steps.append(Step(int(value["iteration"]), str(value["hook"]), str(value["event"]), parts))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RunDirectoryError(
                f"line {number} of {path} isn't a step of a trace: {error!r}. To fix, pass the file that `torchbase "
                "replay` wrote."
            ) from error
    return steps


def describe_first_difference(first: Sequence[Step], second: Sequence[Step]) -> str | None:
    """Says where two traces part.

    Args:
        first: The steps of a trace, at the iterations that both have.
        second: Those of the other one.

    Returns:
        The iteration, the values and what has changed them; None if there is no difference.
    """
    before: Step | None = None
    for one, other in zip(first, second, strict=False):
        if one.call != other.call:
            return f"in iteration {one.iteration:,}, other hooks are called: {one} in one, {other} in the other"
        names = different_names(one.parts, other.parts)
        if names:
            return f"in iteration {one.iteration:,}, {_describe_cause(one, names)}: {describe_names(names)}"
        before = one
    if len(first) != len(second) and before is not None:
        return f"after {before} in iteration {before.iteration:,}, only one of both goes on"
    return None


def at_common_iterations(first: Sequence[Step], second: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """Returns the steps of two traces at the iterations that both have.

    Args:
        first: The steps of a trace.
        second: Those of the other one.
    """
    common = {one.iteration for one in first} & {one.iteration for one in second}
    return [one for one in first if one.iteration in common], [one for one in second if one.iteration in common]


def _describe_cause(step: Step, names: Sequence[str]) -> str:
    if step.hook:
        return f"{step} makes a difference"
    if names[0].startswith(f"{MINI_BATCH}."):
        return "the mini-batch is another one"
    return "the state differs before anything of it is computed"
