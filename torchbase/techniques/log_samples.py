"""Logs samples and outputs of the network as images."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchbase.data.parts import SplitMiniBatch, count_samples
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.monitoring import phase_to_monitor
from torchbase.engine.part_results import gather_outputs, outputs_of_all_parts
from torchbase.engine.phase import PartOutputs, Phase
from torchbase.engine.run import Run
from torchbase.errors import HookError, did_you_mean
from torchbase.intervals import Interval
from torchbase.techniques.settings import is_count


class LogSamples:
    """Logs samples of a phase and their outputs as images.

    For inspecting the inputs and outputs of the network. The names select columns of the mini-batch and outputs of
    ``forward_pass``. The samples are the first of the first mini-batch of the phase, so a validation set always shows
    the same samples. The samples of one name are side by side in one image.

    Example:
        >>> hook = LogSamples(4, ["noisy", "output"], every="5ep")
    """

    def __init__(
        self, samples: int, names: Sequence[str], phase: str | None = None, every: str | Interval = "1ep"
    ) -> None:
        """Sets the images and the interval.

        Args:
            samples: The number of samples, at least 1.
            names: The names of tensors of shape (samples, height, width) or (samples, channels, height, width) with 1
                or 3 channels. Floats are clamped to the range from 0 to 1, bytes are used unchanged, other integers are
                divided by their maximum.
            phase: The name of the phase. By default, the validation set that votes on the best network.
            every: The interval in epochs, e.g. ``"5ep"``.

        Raises:
            HookError: If there are no samples or names.
            IntervalError: If the interval isn't in epochs.
        """
        if not is_count(samples) or isinstance(names, str) or not names:
            raise HookError(
                f"LogSamples expects at least 1 sample and a list of names, but got {samples!r} and {names!r}. To fix, "
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
        """Stores the first mini-batch of the phase until its outputs are computed."""
        is_first = phase.name == self._phase_name and phase.progress.mini_batches == 0
        self._batch = batch if is_first and self._every.is_due_after(epochs=run.epoch) else None

    @hookimpl
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Logs the samples."""
        if self._batch is None or phase.outputs is None:
            return
        columns = _columns_of_all_parts(run, phase, self._batch, self._names)
        self._batch, values = None, {**columns, **outputs_of_all_parts(run, phase, self._names)}
        for name in self._names:
            if name not in values:
                raise HookError(
                    f"LogSamples found nothing named '{name}' in the mini-batch or the outputs of {phase.name}."
                    f"{did_you_mean(name, values)} Available: {', '.join(values)}."
                )
            image = _side_by_side(name, values[name], self._samples)
            tag, step = phase.tag(name, "iterations"), phase.progress.iterations
            run.call.log_image(run=run, tag=tag, image=image, step=step)


def _columns_of_all_parts(run: Run, phase: Phase, batch: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(batch, SplitMiniBatch):
        return batch if isinstance(batch, Mapping) else {}
    own = [
        PartOutputs(count_samples(part), {name: part[name] for name in names if name in part}, number)
        for number, part in batch.parts
        if isinstance(part, Mapping)
    ]
    return gather_outputs(run.processes, own, run.device, f"the samples of a mini-batch of {phase.name}")[1]


def _side_by_side(name: str, value: Any, samples: int) -> torch.Tensor:
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else ()
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[1] not in (1, 3)):
        description = f"a tensor of shape {shape}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise HookError(
            "LogSamples expects tensors of shape (samples, height, width) or (samples, channels, height, width) with 1 "
            f"or 3 channels, but '{name}' is {description}. To fix, reshape it in forward_pass."
        )
    images = value[:samples].detach()
    if images.is_floating_point():
        images = images.float().clamp(0.0, 1.0)
    elif images.dtype is not torch.uint8:
        images = images.float() / images.max().clamp(min=1)
    images = images if images.dim() == 4 else images[:, None]
    return torch.cat(list(images), dim=2).cpu()
