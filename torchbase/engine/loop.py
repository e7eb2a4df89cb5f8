"""The loop and nothing else: epochs of phases of iterations, and the hooks that are told of them.

An engine needs no session, no file and no network: give it a function for one iteration and a run.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.logging_errors import LoggingErrorPolicy, LoggingErrors
from torchbase.engine.phase import Phase
from torchbase.engine.plugins import HookRegistry
from torchbase.engine.run import HookCalls, Run
from torchbase.errors import DataError
from torchbase.listeners import Listener
from torchbase.randomness import restore_streams

RunIteration = Callable[[Run, Phase, Any], object]


class Engine:
    """Runs epochs of iterations and tells registered hooks what happens; `torchbase.engine.hookspecs` shows the loop.

    Example:
        ::

            def step(run, phase, batch):
                ...

            engine = Engine(step)
            engine.register(MyHook())
            engine.run(Run(training=Phase("training", loader, is_training=True), max_epochs=3))
    """

    def __init__(
        self,
        run_iteration: RunIteration | None = None,
        hooks: Iterable[object] = (),
        *,
        defaults: Iterable[object] = (),
        on_logging_error: LoggingErrorPolicy = "raise",
    ) -> None:
        """Makes an engine.

        Args:
            run_iteration: What is done with one mini-batch, called as ``run_iteration(run, phase, batch)``. Without
                it a hook has to implement ``run_iteration``.
            hooks: Hooks to register, in the order in which they are to run.
            defaults: Hooks that come before those, and whose ``run_…`` implementations any of them may replace.
            on_logging_error: What an error in a logging backend does, be it raised in a ``log_…`` event or in a thread
                of the backend: ``"raise"`` ends the run with it, like an error in any other hook, since who makes an
                engine chose each of its hooks; ``"warn"`` tells of it once, and the run goes on, as a session has it.

        Raises:
            HookError: If a hook can't be registered; see `register`.
        """
        iteration = () if run_iteration is None else (_IterationFunction(run_iteration),)
        self._logging_errors = LoggingErrors(on_logging_error)
        self._registry = HookRegistry(hooks, (_PhaseLoop(), *iteration, *defaults), self._logging_errors)

    @property
    def hooks(self) -> Mapping[str, object]:
        """The registered hooks by name, in the order in which they run; read-only."""
        return self._registry.hooks

    @property
    def listeners(self) -> Mapping[str, tuple[Listener, ...]]:
        """By event, the hooks that it is told to, in the order in which they are called; read-only."""
        return self._registry.listeners

    @property
    def call(self) -> HookCalls:
        """The events, callable by name."""
        calls: HookCalls = self._registry.call
        return calls

    def register(self, hook: object, name: str | None = None) -> str:
        """Adds a hook behind those that are there.

        Args:
            hook: An instance, or a module, with methods marked by ``@hookimpl``.
            name: Its name; without one its ``name`` attribute, else its class name in snake case.

        Returns:
            The name under which it is registered.

        Raises:
            HookError: If it can't be called as it stands, or its name is taken; the message says how to mend it.
        """
        return self._registry.register(hook, name)

    def unregister(self, name: str) -> object:
        """Takes a hook out.

        Args:
            name: The name under which it is registered.

        Returns:
            The hook.

        Raises:
            HookError: If no hook has that name.
        """
        return self._registry.unregister(name)

    def run(self, run: Run) -> None:
        """Runs what is left of a run.

        Args:
            run: What to run; it is changed in place and says afterwards how it ended.

        Raises:
            Exception: Whatever a hook or the iteration raises, with notes on where it happened.
        """
        run.hooks, run.listeners, run.call = self.hooks, self.listeners, self.call
        run.is_between_iterations, run.logging_errors = False, self._logging_errors
        run.logging_errors.forget()
        try:
            run.call.on_run_start(run=run)
            while run.stop_reason is None and run.epochs_done < run.max_epochs and not self._should_stop(run):
                self._run_epoch(run)
            run.call.on_run_end(run=run)
        except BaseException as error:
            run.call.on_exception(run=run, error=error)
            raise
        finally:
            run.current_phase = None

    def run_phase(self, run: Run, phase: Phase) -> None:
        """Runs a single phase, outside of an epoch: an evaluation, say.

        Args:
            run: The run; ``run.epoch`` says of which epoch the phase's mini-batches are.
            phase: The phase; afterwards it holds its averages.

        Raises:
            Exception: Whatever a hook or the iteration raises, with notes on where it happened.
        """
        run.hooks, run.listeners, run.call = self.hooks, self.listeners, self.call
        run.call.run_phase(run=run, phase=phase)

    def _should_stop(self, run: Run) -> bool:
        if run.epoch == run.epochs_done and run.call.should_stop(run=run):
            run.request_stop("a hook decided so between two epochs")
        return run.stop_reason is not None

    def _run_epoch(self, run: Run) -> None:
        if run.epoch == run.epochs_done:  # else a checkpoint was taken in the middle of this epoch
            run.epoch += 1
            for phase in run.phases:
                phase.progress.mini_batches, phase.progress.is_done = 0, False
        run.call.on_epoch_start(run=run)
        for phase in run.phases_due:
            if run.stop_reason is None and not run.has_done(phase):
                _run_anew(run, phase)
        if all(run.has_done(phase) for phase in run.phases_due):
            _decide_whether_best(run)
            run.epochs_done += 1
            run.call.on_epoch_end(run=run)


class _PhaseLoop:
    """The engine's own way of running a phase."""

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
        call, progress, block = run.call, phase.progress, phase.block
        has_validation_within = phase.is_training and any(one.is_within_training for one in run.validation)
        run.is_between_iterations = True
        if has_validation_within and progress.mini_batches > 0:  # a run may go on right before a validation
            self._validate_within(run, phase)
            if run.stop_reason is not None:
                return
        for batch in phase.mini_batches(run.epoch):
            run.is_between_iterations = not phase.is_training  # a validation begins again, wherever it is broken off
            if run.random_states is not None:  # as late as can be: making the iterator may have drawn from them
                restore_streams(run.random_states, run.device)
                run.random_states = None
            call.on_iteration_start(run=run, phase=phase, batch=batch)
            call.run_iteration(run=run, phase=phase, batch=batch)
            progress.iterations += 1
            progress.mini_batches += 1
            call.on_iteration_end(run=run, phase=phase)
            phase.store_values()
            phase.outputs = phase.loss = None  # so that their memory is free before the next forward pass
            if block.is_due():
                run.read_values()
            run.is_between_iterations = True
            if has_validation_within and run.stop_reason is None:
                self._validate_within(run, phase)
            if run.stop_reason is not None:
                return
        if progress.mini_batches == 0:
            raise DataError(
                f"The loader of {phase.name} gave no mini-batch in epoch {run.epoch}. To fix, look whether its data is "
                "empty, or give something that can be iterated in every epoch: a list or a DataLoader, not a generator."
            )
        progress.is_done, progress.done_after = True, run.progress.iterations

    def _validate_within(self, run: Run, training: Phase) -> None:
        due = run.phases_due_within_training
        if not due:
            return
        run.read_values()
        for phase in due:
            if run.stop_reason is None:
                _run_anew(run, phase)
        if run.stop_reason is None or not run.phases_due_within_training:
            _decide_whether_best(run)
        run.current_phase = training
        run.call.on_phase_start(run=run, phase=training)
        run.is_between_iterations = True


def _run_anew(run: Run, phase: Phase) -> None:
    if phase.progress.is_done:  # within this epoch, some iterations ago
        phase.progress.mini_batches, phase.progress.is_done = 0, False
    run.call.run_phase(run=run, phase=phase)


def _decide_whether_best(run: Run) -> None:
    if run.call.is_best_epoch(run=run):
        run.call.on_best_epoch(run=run)


class _IterationFunction:
    """A function as the hook that does one iteration."""

    name = "run_iteration"

    def __init__(self, function: RunIteration) -> None:
        self._function = function

    @hookimpl
    def run_iteration(self, run: Run, phase: Phase, batch: Any) -> None:
        self._function(run, phase, batch)
