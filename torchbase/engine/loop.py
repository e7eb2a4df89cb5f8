"""The loop: epochs, phases and iterations, with the hooks that are called in each.

An engine needs no session, no file and no network. It needs a function for one iteration, and a run.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

from torchbase.distributed.processes import Processes
from torchbase.engine.deferred_bodies import check_body_runs, checked_call
from torchbase.engine.hook_calls import HookCalls
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.logging_errors import LoggingErrorPolicy, LoggingErrors
from torchbase.engine.mini_batch_notes import add_faults, add_note, rows_of
from torchbase.engine.phase import Phase
from torchbase.engine.plugins import HookRegistry
from torchbase.engine.run import Run
from torchbase.engine.shared_gradients import check_gradients_are_shared
from torchbase.engine.turn_taking import take_turns
from torchbase.engine.within_epoch import decide_whether_best, ends_within_epoch, run_from_start_if_done
from torchbase.errors import DataError
from torchbase.listeners import Listener
from torchbase.randomness.streams import restore_streams
from torchbase.randomness.thread_turns import one_thread_at_a_time

RunIteration = Callable[[Run, Phase, Any], object]


class Engine:
    """Runs epochs of iterations and calls the registered hooks. `torchbase.engine.hookspecs` draws the loop.

    Example:
        ::

            def step(run, phase, batch):
                ...

            engine = Engine(step)
            engine.register(MyHook())
            training = Phase("training", loader, is_training=True)
            engine.run(Run(training=training, max_epochs=3))
    """

    def __init__(
        self,
        run_iteration: RunIteration | None = None,
        hooks: Iterable[object] = (),
        *,
        defaults: Iterable[object] = (),
        on_logging_error: LoggingErrorPolicy = "raise",
    ) -> None:
        """Creates an engine.

        Args:
            run_iteration: A function that processes one mini-batch, called as ``run_iteration(run, phase, batch)``.
                If it is None, a hook has to implement ``run_iteration``.
            hooks: Hooks to register, in the order in which they are called.
            defaults: Hooks that are called before ``hooks``. Other hooks may replace their ``run_…`` implementations.
            on_logging_error: How an error in a logging backend is handled, whether it is raised in a ``log_…`` event or
                in a thread of the backend. ``"raise"`` ends the run with the error, as for any other hook. ``"warn"``
                logs one warning per backend, and the run continues; a session does this.

        Raises:
            HookError: If a hook can't be registered; see `register`. If ``run_iteration`` is a coroutine or generator.
        """
        iteration = () if run_iteration is None else (_IterationFunction(run_iteration),)
        self._logging_errors = LoggingErrors(on_logging_error)
        self._registry = HookRegistry(hooks, (_PhaseLoop(), *iteration, *defaults), self._logging_errors)

    @property
    def hooks(self) -> Mapping[str, object]:
        """The registered hooks by name, in the order in which they are called; read-only."""
        return self._registry.hooks

    @property
    def listeners(self) -> Mapping[str, tuple[Listener, ...]]:
        """The hooks of each event, in the order in which they are called, by event; read-only."""
        return self._registry.listeners

    @property
    def call(self) -> HookCalls:
        """The events by name; calling one fires it."""
        calls: HookCalls = self._registry.call
        return calls

    def register(self, hook: object, name: str | None = None) -> str:
        """Adds a hook after those that are registered.

        Args:
            hook: An instance, or a module, with methods marked by ``@hookimpl``.
            name: The name of the hook. By default its attribute ``name``, or its class name in snake case.

        Returns:
            The name under which the hook is registered.

        Raises:
            HookError: If a method of the hook could never be called, or the name is taken.
        """
        return self._registry.register(hook, name)

    def unregister(self, name: str) -> object:
        """Removes a hook.

        Args:
            name: The name under which it is registered.

        Returns:
            The hook.

        Raises:
            HookError: If no hook has that name.
        """
        return self._registry.unregister(name)

    def call_hooks_of(self, processes: Processes) -> None:
        """Sets which hooks are called: those that write or log are called on the main process only.

        `run` and `run_phase` do it for the processes of their run.

        Args:
            processes: The processes. Elsewhere than on the main process, ``log_…`` events do nothing, and hooks whose
                attribute ``main_process_only`` is true are not called.
        """
        self._registry.call_hooks_of(processes.is_main)

    def run(self, run: Run) -> None:
        """Runs the remaining epochs of a run.

        Args:
            run: The run, which is changed in place.

        Raises:
            Exception: Any exception of a hook or an iteration, with notes that say where it was raised.
        """
        self.call_hooks_of(run.processes)
        run.hooks, run.listeners, run.call = self.hooks, self.listeners, self.call
        check_gradients_are_shared(run)
        run.fired_events = self._registry.fired_events
        run.is_between_iterations, run.logging_errors = False, self._logging_errors
        run.logging_errors.forget()
        with one_thread_at_a_time() if run.randomness is not None else nullcontext():
            self._run_epochs(run)

    def run_phase(self, run: Run, phase: Phase) -> None:
        """Runs a single phase outside of an epoch, for example an evaluation.

        Args:
            run: The run. ``run.epoch`` is the epoch whose mini-batches the phase reads.
            phase: The phase. Its ``averages`` are set.

        Raises:
            Exception: Any exception of a hook or an iteration, with notes that say where it was raised.
        """
        self.call_hooks_of(run.processes)
        run.hooks, run.listeners, run.call = self.hooks, self.listeners, self.call
        run.call.run_phase(run=run, phase=phase)

    def _run_epochs(self, run: Run) -> None:
        try:
            run.call.on_run_start(run=run)
            self._registry.forget_fired_events()  # a rehearsal is no training
            while not run.is_finished and not self._should_stop(run):
                self._run_epoch(run)
            run.should_stop_now()  # a stop that was requested in the last epoch is recorded
            run.call.on_run_end(run=run)
        except BaseException as error:
            run.call.on_exception(run=run, error=error)
            raise
        finally:
            run.current_phase = None

    def _should_stop(self, run: Run) -> bool:
        if run.stop_reason is None and run.epoch == run.epochs_done and run.call.should_stop(run=run):
            run.request_stop("a hook returned True from should_stop")
        return run.should_stop_now()

    def _run_epoch(self, run: Run) -> None:
        if run.epoch == run.epochs_done:  # else the run resumes in the middle of this epoch
            run.epoch += 1
            for phase in run.phases:
                phase.progress.mini_batches, phase.progress.is_done = 0, False
        run.call.on_epoch_start(run=run)
        for phase in run.phases:
            if run.is_due(phase) and not run.has_done(phase) and not run.should_stop_now():
                run_from_start_if_done(run, phase)
        if all(run.has_done(phase) for phase in run.phases_due):
            decide_whether_best(run)
            run.epochs_done += 1
            run.call.on_epoch_end(run=run)


class _PhaseLoop:
    """The default hook that runs a phase."""

    name = "engine"

    @hookimpl
    def run_phase(self, run: Run, phase: Phase) -> None:
        run.current_phase = phase
        run.call.on_phase_start(run=run, phase=phase)
        try:
            self._iterate(run, phase)
        except Exception as error:
            error.add_note(
                f"in {phase.name}, epoch {run.epoch}, after {phase.progress.mini_batches} mini-batches of this epoch"
            )
            raise
        run.is_between_iterations = False
        run.read_values()
        run.current_phase = None
        if phase.progress.is_done:
            phase.averages = run.call.compute_phase_metrics(run=run, phase=phase)
            run.call.on_phase_end(run=run, phase=phase)

    def _iterate(self, run: Run, phase: Phase) -> None:
        progress = phase.progress
        run.is_between_iterations = True
        # A run may resume right before a validation within training, or after its last iteration.
        if phase.is_training and progress.mini_batches > 0 and ends_within_epoch(run, phase):
            return
        has_iterations = not (phase.is_training and run.has_done_all_iterations)
        if has_iterations and not self._run_iterations(run, phase):
            return
        if progress.mini_batches == 0:
            raise DataError(
                f"The loader of {phase.name} returned no mini-batch in epoch {run.epoch}. To fix, check whether its "
                "data is empty, or pass an iterable for every epoch: a list or a DataLoader, not a generator."
            )
        progress.is_done, progress.done_after = True, run.progress.iterations

    def _run_iterations(self, run: Run, phase: Phase) -> bool:
        """Returns whether the phase is done; else the run ends within it."""
        call, progress, block = run.call, phase.progress, phase.block
        has_validation_within = phase.is_training and any(one.is_within_training for one in run.validation)
        last = math.inf if run.max_iterations is None or not phase.is_training else run.max_iterations
        turns = run.turns if phase.is_training else None
        for batch in phase.mini_batches(run.epoch):
            # An interrupted validation restarts, so any point of it is fine.
            run.is_between_iterations = not phase.is_training
            if run.random_states is not None:  # as late as possible: creating the iterator may have drawn from them
                restore_streams(run.random_states, run.device)
                run.random_states = None
            position = progress.mini_batches
            try:
                call.on_iteration_start(run=run, phase=phase, batch=batch)
                if turns is None:
                    call.run_iteration(run=run, phase=phase, batch=batch)
                else:
                    iteration = partial(call.run_iteration, run=run, phase=phase, batch=batch)
                    take_turns(run, phase, turns, turns.of_iteration(progress.iterations + 1), iteration)
                progress.iterations += 1
                progress.mini_batches += 1
                call.on_iteration_end(run=run, phase=phase)
            except Exception as error:
                place = f"with mini-batch {position + 1} of {phase.name}, epoch {run.epoch}"
                add_note(error, place, batch, rows_of(phase.loader, run.epoch, position))
                add_faults(error, phase.loader, run.epoch, position)
                raise
            phase.store_values()
            phase.outputs = phase.loss = None  # so that their memory is free before the next forward pass
            phase.parts = ()
            if block.is_due(run.processes.now()):
                run.read_values()
            run.is_between_iterations = True
            if run.should_stop_now():
                return False
            is_last = progress.iterations >= last
            if (has_validation_within or is_last) and ends_within_epoch(run, phase):
                return False
            if is_last:
                return True
        return True


class _IterationFunction:
    """A hook that runs an iteration by a function."""

    name = "run_iteration"

    def __init__(self, function: RunIteration) -> None:
        where = "The function run_iteration of the engine"
        check_body_runs(function, where)
        self._function = checked_call(function, where)
        self.shares_gradients = getattr(function, "shares_gradients", False)

    @hookimpl
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> None:
        self._function(run, phase, batch)
