"""Every hook, and where in a run it stands.

::

    on_setup_start(run_directory, config, randomness, resuming, session_class)    nothing of the user's is built yet
      … init_datasets, init_network, init_optimizer …
    on_run_start(run)                               everything is built; a checkpoint restores here
    for each epoch, unless should_stop(run)
        on_epoch_start(run)
        run_phase(run, phase)                       wrappable: EMA weights for validation, timing, profiling
            on_phase_start(run, phase)
            for each mini-batch
                on_iteration_start(run, phase, batch)
                run_iteration(run, phase, batch)    wrappable: retry on out-of-memory, profiling
                    run_forward(run, phase, batch)  forward_pass and loss_function; wrappable: autocast
                    on_loss_computed(run, phase, loss)
                    run_backward(run, loss)         training only; wrappable: scaling by a hook on the loss
                    on_gradients_ready(run)         training only; looking at the gradients of a mini-batch
                    should_step_optimizer(run)      training only; gradient accumulation
                    run_optimizer_step(run)         training only; wrappable: clipping, schedules, averages
                on_iteration_end(run, phase)
                on_values_read(run, phase, rows)    now and then: the values of many iterations, on the host
                run_phase(run, phase)               a validation set that is due after this training iteration, and
                                                    behind it is_best_epoch, and on_phase_start of training again
            compute_phase_metrics(run, phase)
            on_phase_end(run, phase)
        is_best_epoch(run)
        on_best_epoch(run)                          when it is
        on_epoch_end(run)
    on_run_end(run)  |  on_exception(run, error)

    log_scalars, log_hparams, log_text, log_image, log_figure, log_histogram, log_layout, log_graph
                                                    told by whoever has something to record

The first word says what becomes of a hook's answer:

=============== ==================================================================================================
``on_…``        it happened; answers are ignored
``log_…``       record this; answers are ignored
``compute_…``   give values; the dictionaries are merged, and a key given twice is an error
``is_…``        decide; the first answer that is not None counts
``should_…``    likewise
``run_…``       do it; one hook does, and wrappers (``@hookimpl(wrapper=True)``) go around it
=============== ==================================================================================================

Hooks run in the order in which they are listed. A hook takes any part of an event's arguments, by name.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pluggy
import torch

from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.randomness import Randomness
from torchbase.run_directory.directory import RunDirectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchbase.run_directory.config import Config

PROJECT_NAME = "torchbase"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def on_setup_start(
    run_directory: RunDirectory, config: "Config", randomness: Randomness, resuming: bool, session_class: type | None
) -> None:
    """The run directory stands and is locked; no data and no network yet.

    Only the hooks of `TrainingBaseSession.default_hooks` and the config's plugins are there to hear it.

    Args:
        run_directory: What keeps the run on disk.
        config: The validated config.
        randomness: The seed of the run.
        resuming: Whether the run directory is an earlier run's that goes on.
        session_class: The class of the session.
    """


@hookspec
def on_run_start(run: Run) -> None:
    """Everything is built, and the first epoch, or the one to resume, is about to begin.

    Args:
        run: The run.
    """


@hookspec
def on_epoch_start(run: Run) -> None:
    """An epoch begins, or one that was interrupted goes on (``run.progress.mini_batches`` is then above 0).

    Args:
        run: The run; ``run.epoch`` is the epoch, the first is 1.
    """


@hookspec(firstresult=True)
def run_phase(run: Run, phase: Phase) -> None:
    """Runs a phase of the epoch. The engine's own implementation iterates its loader.

    Args:
        run: The run.
        phase: The training phase or one of the validation phases.
    """


@hookspec
def on_phase_start(run: Run, phase: Phase) -> None:
    """A phase begins, or goes on in the middle (``phase.progress.mini_batches`` is then above 0).

    Training goes on in the middle when a run is resumed, and after a validation set that is run within the epoch.

    Args:
        run: The run.
        phase: The phase.
    """


@hookspec
def on_iteration_start(run: Run, phase: Phase, batch: Any) -> None:
    """A mini-batch has been read.

    Args:
        run: The run.
        phase: The phase.
        batch: The mini-batch, as ``forward_pass`` will get it.
    """


@hookspec(firstresult=True)
def run_iteration(run: Run, phase: Phase, batch: Any) -> None:
    """Runs one iteration: in training a step of the optimizer, in validation a forward pass.

    Args:
        run: The run.
        phase: The phase; the implementation sets its ``outputs``, ``loss``, ``samples`` and ``values``.
        batch: The mini-batch.
    """


@hookspec(firstresult=True)
def run_forward(run: Run, phase: Phase, batch: Any) -> torch.Tensor:  # type: ignore[empty-body]
    """Computes the loss of a mini-batch.

    Args:
        run: The run.
        phase: The phase; the implementation sets its ``outputs``, ``loss``, ``samples`` and ``values``.
        batch: The mini-batch.

    Returns:
        The loss, shape (), with its graph where the phase trains.
    """


@hookspec
def on_loss_computed(run: Run, phase: Phase, loss: torch.Tensor) -> None:
    """The loss of a mini-batch is there, before anything is learnt from it.

    Args:
        run: The run.
        phase: The phase.
        loss: Shape (), on its device. Reading its value makes the host wait; `on_values_read` doesn't.
    """


@hookspec(firstresult=True)
def run_backward(run: Run, loss: torch.Tensor) -> None:
    """Computes the gradients.

    Args:
        run: The run.
        loss: Shape (), with its graph.
    """


@hookspec
def on_gradients_ready(run: Run) -> None:
    """The gradients are computed, and the optimizer has not used them yet.

    Args:
        run: The run.
    """


@hookspec(firstresult=True)
def should_step_optimizer(run: Run) -> bool | None:
    """Decides whether the optimizer steps in this iteration; it does where nobody decides.

    Args:
        run: The run.

    Returns:
        True or False, or None to leave it to others.
    """


@hookspec(firstresult=True)
def run_optimizer_step(run: Run) -> None:
    """Steps the optimizer and clears the gradients.

    Args:
        run: The run.
    """


@hookspec
def on_iteration_end(run: Run, phase: Phase) -> None:
    """An iteration is done and counted; its outputs and loss are still there.

    Args:
        run: The run.
        phase: The phase.
    """


@hookspec
def on_values_read(run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
    """The values of finished iterations have come to the host, many in one transfer.

    Told when a block is full, at the end of each phase, and before a checkpoint is written; each iteration once.

    Args:
        run: The run.
        phase: The phase whose iterations they are.
        rows: One entry an iteration, in their order.
    """


@hookspec
def compute_phase_metrics(run: Run, phase: Phase) -> Mapping[str, float]:  # type: ignore[empty-body]
    """Gives values of a phase that is done; they become its averages of this epoch.

    Args:
        run: The run.
        phase: The phase.

    Returns:
        Values by name. A name that another hook gives too is an error.
    """


@hookspec
def on_phase_end(run: Run, phase: Phase) -> None:
    """A phase has been through all of its mini-batches. Not told of a phase that is broken off.

    Args:
        run: The run; ``run.curve(phase)`` tells at which step of which curve the averages stand.
        phase: The phase; ``phase.averages`` are those of this pass.
    """


@hookspec(firstresult=True)
def is_best_epoch(run: Run) -> bool | None:
    """Decides, when validation phases are done, whether the network is the best so far.

    Asked when all phases of an epoch are done, and after those validation phases that are run within an epoch.

    Args:
        run: The run.

    Returns:
        True or False, or None to leave it to others.
    """


@hookspec
def on_best_epoch(run: Run) -> None:
    """The network after this epoch is the best so far.

    Args:
        run: The run.
    """


@hookspec
def on_epoch_end(run: Run) -> None:
    """An epoch is done, validation included.

    Args:
        run: The run; ``run.epochs_done`` counts this epoch already.
    """


@hookspec(firstresult=True)
def should_stop(run: Run) -> bool | None:
    """Decides before each epoch whether the run ends here. State it rests on belongs into ``state_dict``.

    Args:
        run: The run.

    Returns:
        True or False, or None to leave it to others.
    """


@hookspec
def on_run_end(run: Run) -> None:
    """The run is over: all epochs are done, or ``run.stop_reason`` says why not.

    Args:
        run: The run.
    """


@hookspec
def on_exception(run: Run, error: BaseException) -> None:
    """An error ends the run; it goes on to the caller afterwards.

    Args:
        run: The run.
        error: What was raised.
    """


@hookspec
def log_scalars(run: Run, scalars: Mapping[str, float], step: int) -> None:
    """Record numbers.

    Args:
        run: The run.
        scalars: Numbers by tag, e.g. ``training/loss/iterations``.
        step: What they belong to: an iteration or an epoch, as the tag says; the first is 1.
    """


@hookspec
def log_hparams(run: Run, hparams: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Record what the run was made with beside how it ended.

    Args:
        run: The run.
        hparams: Hyper-parameters by name: numbers, strings and booleans.
        metrics: Final values by tag.
    """


@hookspec
def log_text(run: Run, tag: str, text: str, step: int) -> None:
    """Record a text.

    Args:
        run: The run.
        tag: The name of the curve or panel.
        text: Markdown.
        step: The iteration or epoch it belongs to.
    """


@hookspec
def log_image(run: Run, tag: str, image: torch.Tensor | np.ndarray[Any, Any], step: int) -> None:
    """Record an image.

    Args:
        run: The run.
        tag: The name of the panel.
        image: Shape (channels, height, width), 1 or 3 channels; floats from 0 to 1, or bytes.
        step: The iteration or epoch it belongs to.
    """


@hookspec
def log_figure(run: Run, tag: str, figure: "Figure", step: int) -> None:
    """Record a figure of matplotlib.

    Args:
        run: The run.
        tag: The name of the panel.
        figure: The figure; a backend may close it.
        step: The iteration or epoch it belongs to.
    """


@hookspec
def log_histogram(run: Run, tag: str, values: torch.Tensor | np.ndarray[Any, Any], step: int) -> None:
    """Record how values are distributed.

    Args:
        run: The run.
        tag: The name of the panel.
        values: Any shape.
        step: The iteration or epoch it belongs to.
    """


@hookspec
def log_layout(run: Run, layout: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Show curves together; the layout told last counts.

    Args:
        run: The run.
        layout: The tags of each chart, by category and chart:
            ``{"losses": {"loss": ["training/loss/epochs", "validation-valid/loss/epochs"]}}``.
    """


@hookspec
def log_graph(run: Run, network: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
    """Record of which operations a network consists. Who tells it puts back what calling the network changes.

    Args:
        run: The run.
        network: The network.
        inputs: What to call it with, by position.
    """
