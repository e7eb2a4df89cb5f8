"""Records what the network makes of some samples, as images."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.monitoring import phase_to_monitor
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.errors import HookError, did_you_mean
from torchbase.intervals import Interval


class LogSamples:
    """Records some samples of a phase as images: columns of the mini-batch and outputs of ``forward_pass``, by name.

    For looking at what goes in and what comes out. They are the first samples of the first mini-batch of the phase, so
    those of a validation set are the same each time. The samples of a name stand side by side in one image.

    Example:
        >>> hook = LogSamples(4, ["noisy", "output"], every="5ep")
    """

    def __init__(
        self, samples: int, names: Sequence[str], phase: str | None = None, every: str | Interval = "1ep"
    ) -> None:
        """Sets what is recorded, and how often.

        Args:
            samples: How many, at least 1.
            names: The names of tensors of shape (samples, height, width) or (samples, channels, height, width) with 1
                or 3 channels. Floats are cut off below 0 and above 1, bytes taken as they are, other whole numbers
                divided by the largest of them.
            phase: The phase; without one the validation set that votes on the best network.
            every: In every how many epochs, e.g. ``"5ep"``.

        Raises:
            HookError: If there are no samples or names.
            IntervalError: If it isn't a number of epochs.
        """
        if samples < 1 or isinstance(names, str) or not names:
            raise HookError(
                f"LogSamples takes at least 1 sample and a list of names, and got {samples!r} and {names!r}. To fix, "
                'write e.g. LogSamples(4, ["image", "output"]).'
            )
        self._samples, self._names, self._phase_name = samples, tuple(names), phase
        self._every = Interval.parse(every, units=("ep",))
        self._batch: Any = None

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Finds the phase."""
        self._phase_name = phase_to_monitor(run, self._phase_name).name

    @hookimpl
    def on_iteration_start(self, run: Run, phase: Phase, batch: Any) -> None:
        """Keeps the first mini-batch of the phase, until its outputs are there."""
        is_first = phase.name == self._phase_name and phase.progress.mini_batches == 0
        self._batch = batch if is_first and self._every.is_due_after(epochs=run.epoch) else None

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Records the samples."""
        if self._batch is None or phase.outputs is None:
            return
        columns = self._batch if isinstance(self._batch, Mapping) else {}
        self._batch, found = None, {**columns, **phase.outputs}
        for name in self._names:
            if name not in found:
                raise HookError(
                    f"LogSamples finds nothing named '{name}' in the mini-batch or the outputs of {phase.name}."
                    f"{did_you_mean(name, found)} There are: {', '.join(found)}."
                )
            image = _side_by_side(name, found[name], self._samples)
            tag, step = phase.tag(name, "iterations"), phase.progress.iterations
            run.call.log_image(run=run, tag=tag, image=image, step=step)


def _side_by_side(name: str, value: Any, samples: int) -> torch.Tensor:
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else ()
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[1] not in (1, 3)):
        came = f"a tensor of shape {shape}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise HookError(
            f"LogSamples takes tensors of shape (samples, height, width) or (samples, channels, height, width) with 1 "
            f"or 3 channels, and '{name}' is {came}. To fix, reshape it in forward_pass."
        )
    some = value[:samples].detach()
    if some.is_floating_point():
        some = some.float().clamp(0.0, 1.0)
    elif some.dtype is not torch.uint8:
        some = some.float() / some.max().clamp(min=1)
    images = some if some.dim() == 4 else some[:, None]
    return torch.cat(list(images), dim=2).cpu()
