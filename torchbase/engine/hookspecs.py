"""All events, in the order of the loop.

::

    on_setup_start(run_directory, config, randomness, resuming, session_class, processes)
    init_datasets, init_network, init_optimizer, …       methods of the session
    on_run_start(run)                                    a checkpoint is restored here
    for each epoch, until should_stop(run):
        on_epoch_start(run)
        for each phase (training, then each validation set):
            run_phase(run, phase):
                on_phase_start(run, phase)
                for each mini-batch:
                    on_iteration_start(run, phase, batch)
                    run_iteration(run, phase, batch):    for each turn of several
                                                         optimizers
                        run_part(run, phase, batch, part, share)
                                                         with mini_batch_parts: for
                                                         each part, around the next three
                        run_forward(run, phase, batch)
                        on_loss_computed(run, phase, loss)
                        run_backward(run, loss)          training only
                        on_gradients_ready(run)          training only
                        should_step_optimizer(run)       training only
                        run_optimizer_step(run)          training only
                    on_iteration_end(run, phase)
                    on_values_read(run, phase, rows)     when a block of values is read
                    run_phase(run, phase)                validation within training, if due;
                                                         then is_best_epoch, on_best_epoch
                                                         and on_phase_start of training
                on_values_read(run, phase, rows)         the rest of the values
                compute_phase_metrics(run, phase)
                on_phase_end(run, phase)
        is_best_epoch(run)
        on_best_epoch(run)                               if it is the best
        on_epoch_end(run)                                checkpoints are written here
    on_run_end(run), or on_exception(run, error) after an error

The ``log_…`` events fire whenever a hook has something to record.

The first word of an event's name determines how the return values of its hooks are used:

=========================== ======================================================================================
``on_…``, ``log_…``         Return values are ignored.
``compute_…``               The returned dictionaries are merged. It is an error if two of them have the same key.
``is_…``, ``should_…``      The first return value that is not None wins. The hooks after it are not called.
``run_…``                   One hook does the work, and its return value is used. Wrappers may change it.
=========================== ======================================================================================
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pluggy
import torch

from torchbase.distributed.processes import Processes
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.randomness.run_randomness import Randomness
from torchbase.run_directory.directory import RunDirectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchbase.run_directory.config import Config

PROJECT_NAME = "torchbase"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def on_setup_start(
    run_directory: RunDirectory,
    config: "Config",
    randomness: Randomness,
    resuming: bool,
    session_class: type | None,
    processes: Processes,
) -> None:
    """Called when a session is created, before datasets and network are built.

    The run directory exists and is locked. Implement it to write a file before anything can fail. Only the hooks in
    `TrainingBaseSession.default_hooks` and the plugins of the config are called: others are registered later. An
    `Engine` without a session doesn't fire it.

    Args:
        run_directory: The directory of the run.
        config: The validated config.
        randomness: The seed of the run, from which all other seeds are derived.
        resuming: Whether the run continues an earlier one in the same directory.
        session_class: The class of the session.
        processes: The processes that train together. The main process calls its hooks first.
    """


@hookspec
def on_run_start(run: Run) -> None:
    """Called when everything is built, before the first epoch or the epoch to resume.

    Implement it to prepare what needs the network, the optimizer or the loaders. `Checkpoint` restores the state of a
    resumed run here, before the hooks without ``tryfirst=True`` are called.

    Args:
        run: The run.
    """


@hookspec
def on_epoch_start(run: Run) -> None:
    """Called before each epoch, and when an interrupted epoch resumes.

    Implement it to change something from epoch to epoch, such as the learning rate.

    Args:
        run: The run. ``run.epoch`` is the epoch, starting at 1. ``run.progress.mini_batches`` is above 0 if the epoch
            was interrupted.
    """


@hookspec(firstresult=True)
def run_phase(run: Run, phase: Phase) -> None:
    """Runs one phase of the epoch: training or one validation set.

    The engine's implementation iterates over the loader. Wrap it to validate with other weights, or to profile or time
    a phase.

    Args:
        run: The run.
        phase: The training phase or one of the validation phases.
    """


@hookspec
def on_phase_start(run: Run, phase: Phase) -> None:
    """Called before each phase, and when the training phase resumes.

    Implement it to reset what is collected over a phase. `TrainingStep` switches the network to training or evaluation
    mode here; `SeedCapture`, called last, seeds the random streams.

    Args:
        run: The run.
        phase: The phase. ``phase.progress.mini_batches`` is above 0 if it resumes: in a resumed run, or after a
            validation set that ran within training.
    """


@hookspec
def on_iteration_start(run: Run, phase: Phase, batch: Any) -> None:
    """Called when a mini-batch has been read, before its iteration.

    Implement it to inspect a mini-batch.

    Args:
        run: The run.
        phase: The phase.
        batch: The mini-batch, as it is passed to ``forward_pass``. With ``session.mini_batch_parts``, a
            `torchbase.data.SplitMiniBatch` of the parts that are passed to it.
    """


@hookspec(firstresult=True)
def run_iteration(run: Run, phase: Phase, batch: Any) -> None:
    """Runs one iteration: forward pass and loss and, in training, backward pass and optimizer step.

    With several optimizers, it fires once for each turn. ``run.turn`` is then the name of the optimizer.

    `TrainingStep` implements it by firing the next six events; in validation it fires the first two, without gradients.
    Wrap it to retry or profile an iteration. Replace it for another kind of step; then fire those of the six events
    that other hooks wait for. `UncalledHooks` warns of hooks that are never called. With several processes,
    `MiniBatchParts` implements it, and hooks implement `run_part` instead; or the hook adds the gradients of all
    processes with ``run.processes.reduce``, and has an attribute ``shares_gradients = True``.

    Args:
        run: The run.
        phase: The phase. The implementation sets its ``outputs``, ``loss``, ``samples`` and ``values``.
        batch: The mini-batch.
    """


@hookspec(firstresult=True)
def run_part(run: Run, phase: Phase, batch: Any, part: int, share: "torch.Tensor | float") -> None:
    """Computes a part of a mini-batch and, in training, its gradients. Only with ``session.mini_batch_parts``.

    `MiniBatchParts` fires it for each part. `TrainingStep` implements it by firing the next three events. Wrap it to
    retry a part.

    Args:
        run: The run.
        phase: The phase. The implementation sets its ``outputs``, ``loss``, ``samples`` and ``values``.
        batch: The part, a mini-batch of fewer samples.
        part: The index of the part, from 0.
        share: The share of the part in the samples of the mini-batch, or in what ``infer_loss_weight`` returns, by
            which its gradients are weighted: a number, or a tensor of shape () on the device.
    """


@hookspec(firstresult=True)
def run_forward(run: Run, phase: Phase, batch: Any) -> torch.Tensor | None:
    """Computes the loss of a mini-batch.

    `TrainingStep` implements it by calling ``forward_pass`` and ``loss_function`` of the session. Wrap it for autocast.
    `Rehearsal` fires it once or twice per phase before training, after all other hooks of `on_run_start`.

    Args:
        run: The run.
        phase: The phase. The implementation sets its ``outputs``, ``loss``, ``samples`` and ``values``.
        batch: The mini-batch.

    Returns:
        The loss, shape (), with its graph if the phase trains; None in a validation without a loss.
    """


@hookspec
def on_loss_computed(run: Run, phase: Phase, loss: torch.Tensor) -> None:
    """Called when the loss of a mini-batch is computed, before the backward pass.

    Implement it to inspect the loss, or to call ``loss.register_hook``. Not called in a validation without a loss.

    Args:
        run: The run.
        phase: The phase.
        loss: The loss, shape (), on its device. Reading its value synchronizes with the device; use `on_values_read`
            to read values without that.
    """


@hookspec(firstresult=True)
def run_backward(run: Run, loss: torch.Tensor) -> None:
    """Computes the gradients. Training only.

    `TrainingStep` implements it as ``loss.backward()``. Replace it to compute gradients in another way. To scale the
    gradients, wrap it and call ``loss.register_hook``.

    Args:
        run: The run.
        loss: The loss, shape (), with its graph.
    """


@hookspec
def on_gradients_ready(run: Run) -> None:
    """Called when the gradients are computed, before the optimizer uses them. Training only.

    Implement it to inspect gradients. With gradient accumulation it is called for each mini-batch, when the sum is not
    complete yet; to change the gradients of a step, wrap `run_optimizer_step` instead.

    Args:
        run: The run.
    """


@hookspec(firstresult=True)
def should_step_optimizer(run: Run) -> bool | None:
    """Called to decide whether the optimizer steps in this iteration. Training only.

    Implement it to accumulate gradients: without a step, they stay and the next iteration adds to them.

    Args:
        run: The run. ``run.progress`` doesn't count this iteration yet.

    Returns:
        True or False, or None to leave the decision to the next hook. The first return value that is not None wins.
        The optimizer steps if all hooks return None.
    """


@hookspec(firstresult=True)
def run_optimizer_step(run: Run) -> None:
    """Steps the optimizer and clears the gradients. Training only.

    `TrainingStep` implements it. Wrap it to clip gradients, to set the learning rate per iteration, or to average
    weights.

    Args:
        run: The run.
    """


@hookspec
def on_iteration_end(run: Run, phase: Phase) -> None:
    """Called after each iteration, while its outputs and loss are still available.

    Implement it to log a value of an iteration.

    Args:
        run: The run.
        phase: The phase. Its progress counts this iteration. ``phase.outputs`` is the return value of
            ``forward_pass``, ``phase.loss`` is detached.
    """


@hookspec
def on_values_read(run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
    """Called when the values of finished iterations have been copied to the host, many in one transfer.

    The values are the loss, what was logged by ``run.log``, and metrics. It is called when 64 iterations are waiting or
    the first has waited for a second, at the end of each phase, and before a checkpoint is written. Each iteration is
    passed once. Implement it to read values without synchronizing with the device in each iteration.

    Args:
        run: The run.
        phase: The phase of the iterations.
        rows: One entry per iteration, in order.
    """


@hookspec
def compute_phase_metrics(run: Run, phase: Phase) -> Mapping[str, float]:  # type: ignore[empty-body]
    """Called when a phase has ended, to compute its values for this epoch.

    Implement it to add a value to ``phase.averages``. `MetricAverages` returns the averages of the values of
    iterations, `Metrics` the metrics over all samples.

    Args:
        run: The run.
        phase: The phase.

    Returns:
        Values by name. The dictionaries of all hooks are merged into ``phase.averages``. It is an error if two hooks
        return the same name.
    """


@hookspec
def on_phase_end(run: Run, phase: Phase) -> None:
    """Called after all mini-batches of a phase. Not called for a phase that is interrupted.

    Implement it to use the averages of a phase.

    Args:
        run: The run. ``run.curve(phase)`` returns the unit and the step at which the averages are logged.
        phase: The phase. ``phase.averages`` are the averages of this pass.
    """


@hookspec(firstresult=True)
def is_best_epoch(run: Run) -> bool | None:
    """Called to decide whether the network is the best so far.

    It is called after all phases of an epoch, and after the validation sets that run within training. Implement it for
    another criterion, with ``@hookimpl(tryfirst=True)``, since `BestValidation` never returns None.

    Args:
        run: The run.

    Returns:
        True or False, or None to leave the decision to the next hook. The first return value that is not None wins.
        The network is not the best if all hooks return None.
    """


@hookspec
def on_best_epoch(run: Run) -> None:
    """Called when the network is the best so far.

    Implement it to save or export the best network. `BestValidation` saves it in ``network.pth``.

    Args:
        run: The run.
    """


@hookspec
def on_epoch_end(run: Run) -> None:
    """Called after each epoch, validation included.

    Implement it to log or write something per epoch. `Checkpoint`, called last, writes a checkpoint here if one is due.

    Args:
        run: The run. ``run.epochs_done`` counts this epoch.
    """


@hookspec(firstresult=True)
def should_stop(run: Run) -> bool | None:
    """Called before each epoch to decide whether the run ends. Not called before an epoch that resumes.

    Implement it to stop early. Save what the decision depends on in ``state_dict``, so a resumed run decides the same.
    Call ``run.request_stop(reason)`` to stop at any other time, or to record a reason.

    Args:
        run: The run.

    Returns:
        True or False, or None to leave the decision to the next hook. The first return value that is not None wins.
        The run continues if all hooks return None.
    """


@hookspec
def on_run_end(run: Run) -> None:
    """Called after the last epoch, or when the run stops early.

    Implement it to close what `on_run_start` opened, or to report results.

    Args:
        run: The run. ``run.stop_reason`` is why it stopped early, or None.
    """


@hookspec
def on_exception(run: Run, error: BaseException) -> None:
    """Called when an error ends the run, before the error is raised to the caller.

    It is called for every error since `on_run_start`, including errors in `on_run_end` and ``KeyboardInterrupt``.
    Implement it to close what `on_run_start` opened.

    Args:
        run: The run.
        error: The exception.
    """


@hookspec
def log_scalars(run: Run, scalars: Mapping[str, float], step: int) -> None:
    """Called to record numbers.

    `LogValues` fires it for the values of iterations and the averages of epochs, ``run.log`` between phases.

    Args:
        run: The run.
        scalars: Numbers by tag, such as ``training/loss/iterations`` or ``validation-valid/loss/epochs``.
        step: The iteration or epoch, as the tag says, starting at 1.
    """


@hookspec
def log_hparams(run: Run, hparams: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Called to record the hyper-parameters of the run with its results.

    `LogValues` fires it at the end of the run.

    Args:
        run: The run.
        hparams: Numbers, strings and booleans by name: the flattened config, such as ``session.learning_rate``.
        metrics: Final values by tag, such as ``validation-valid/best_loss/epochs``.
    """


@hookspec
def log_text(run: Run, tag: str, text: str, step: int) -> None:
    """Called to record a text. No hook of torchbase fires it; fire it in your own.

    Args:
        run: The run.
        tag: The name under which the text is shown.
        text: The text, in Markdown.
        step: The iteration or epoch of the text.
    """


@hookspec
def log_image(run: Run, tag: str, image: torch.Tensor | np.ndarray[Any, Any], step: int) -> None:
    """Called to record an image.

    `LogSamples` fires it.

    Args:
        run: The run.
        tag: The name under which the image is shown.
        image: The image, shape (channels, height, width), with 1 or 3 channels: floats from 0 to 1, or bytes.
        step: The iteration or epoch of the image.
    """


@hookspec
def log_figure(run: Run, tag: str, figure: "Figure", step: int) -> None:
    """Called to record a figure of matplotlib.

    `Metrics` fires it for metrics that are drawn, such as a confusion matrix.

    Args:
        run: The run.
        tag: The name under which the figure is shown.
        figure: The figure. A logging backend may close it.
        step: The iteration or epoch of the figure.
    """


@hookspec
def log_histogram(run: Run, tag: str, values: torch.Tensor | np.ndarray[Any, Any], step: int) -> None:
    """Called to record the distribution of values.

    `LogGradients` and `LogWeights` fire it.

    Args:
        run: The run.
        tag: The name under which the histogram is shown.
        values: The values, of any shape.
        step: The iteration or epoch of the values.
    """


@hookspec
def log_layout(run: Run, layout: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Called to show several curves in one chart. The last layout replaces those before it.

    `Charts` fires it before the first epoch, also in a resumed run.

    Args:
        run: The run.
        layout: The tags of each chart, by category and chart:
            ``{"losses": {"loss": ["training/loss/epochs", "validation-valid/loss/epochs"]}}``.
    """


@hookspec
def log_graph(run: Run, network: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
    """Called to record the operations of a network.

    `NetworkGraph` fires it. A logging backend calls the network; the hook that fires the event restores afterwards what
    that changes: buffers, modes and random streams.

    Args:
        run: The run.
        network: The network.
        inputs: The positional arguments to call the network with.
    """
