"""The preset: the user writes a few methods, and the standard hooks do the rest."""

import copy
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Self

import torch

from torchbase import hooks as standard
from torchbase.checkpoints.verification import Verification, verify_run
from torchbase.data.phase_loader import end_workers
from torchbase.distributed.joining import join
from torchbase.distributed.processes import SingleProcess
from torchbase.engine.entry_points import load_plugin
from torchbase.engine.held_network import ReplicatedNetwork
from torchbase.engine.loop import Engine
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import TrainingStep
from torchbase.randomness.streams import isolate_rng
from torchbase.randomness.thread_turns import one_thread_at_a_time
from torchbase.run_directory.error_files import errors_for_torchrun
from torchbase.session.beginning import SessionBeginning
from torchbase.session.constructor import set_by_constructor
from torchbase.session.evaluation import SessionEvaluation
from torchbase.session.length import maximum_of_epochs
from torchbase.session.likeness import check_alike, facts_of_call, facts_of_run
from torchbase.session.misspelt import warn_of_misspelt_methods
from torchbase.session.opening import SessionOpening
from torchbase.session.replaying import source_in_replay
from torchbase.session.run_source import RunSource, choose_parts, find_run, saved_config
from torchbase.session.shadowed import shadowed
from torchbase.session.summary import RunSummary, summarize
from torchbase.session.together import join_with_device, sharded_network, tell_result

_OVERRIDABLE = (
    *("init_ingredients", "init_datasets", "init_network", "load_pretrained"),
    *("init_optimizer", "init_scheduler", "init_order", "init_dataloaders", "init_metrics", "init_best_validation"),
    *("forward_pass", "loss_function", "get_loss_value", "infer_mini_batch_size", "infer_loss_weight"),
    *("dataloader_collate_function", "sharded_units", "optimizer_turns", "default_hooks"),
)
_NOT_COPIED = frozenset(
    {"engine", "network", "optimizer", "processes", "dataloader_train", "dataloader_valid_dict"}
    | {"_run_directory", "_run", "_dataloaders", "_training_loader", "_datasets", "_metrics", "_evaluated"}
    | {"_was_called", "_is_training", "_held", "_sharded", "_order", "_running_methods"}
)


class TrainingBaseSession(SessionOpening, SessionEvaluation, SessionBeginning):
    """A training run of the user's network on the user's data.

    Subclass it, write the abstract methods, pass a config and call the session. The constructor makes the run
    directory. Data, network and optimizer are built when they are first needed, so a subclass may set its own
    attributes after ``super().__init__(config)``.

    Attributes:
        config_session: The validated ``session`` section, by attribute (``self.config_session.learning_rate``).
        config_data: The ``data`` section.
        config_metrics: The ``metrics`` section.
        config_network: The ``network`` section.
        device: The device of the network.
        processes: The processes that run this training together.
        engine: The engine that runs the epochs.
        run_dir: The path of the run directory.
        turn: The name of the optimizer whose turn it is in a training iteration; None with a single optimizer, in
            validation and in predictions.
    """

    config_data: dict[str, Any] = set_by_constructor()

    def __init__(
        self,
        config: Mapping[str, Any],
        runs_parent_dir: str | Path | None = None,
        create_run_dir_afresh: bool | None = True,
        source_run_dir_tag: str | None = None,
        tag_postfix: str | None = None,
        source_network: Literal["best", "last"] = "best",
        allow_config_changes: bool = False,
        source_strict: bool = True,
    ) -> None:
        """Validates the config and makes or opens the run directory.

        Args:
            config: The config dictionary. It is not changed.
            runs_parent_dir: The folder of all run directories; None means ``runs`` in the current folder.
            create_run_dir_afresh: Whether this is a new run. If False, the run ``source_run_dir_tag`` is resumed; if
                None, it is begun under exactly this name unless it is there, see `begin_or_resume`.
            source_run_dir_tag: The run to resume. For a new run, the run from whose network it starts.
            tag_postfix: A text to append to the name of the new run directory.
            source_network: The network from which a new run starts: the best or the last network of the source run.
            allow_config_changes: Whether a run may be resumed with a config that makes it another experiment. The
                changes are recorded in the run directory.
            source_strict: Whether the network of the source run has to match. If False, what matches by name and shape
                is loaded, as for another head; ``source.json`` lists what was taken, and what wasn't.

        Raises:
            ConfigError: If the config has errors; the message lists all of them. If it differs from that of the resumed
                run in keys that may not change (see `torchbase.run_directory.config_snapshot.MAY_CHANGE`).
            RunDirectoryError: If the run directory can't be made, opened or locked.
            HookError: If a hook of `default_hooks` can't be registered.
            StepError: If `loss_function` can't be called by keyword.
        """
        from torchbase.run_directory.config import validate_config  # late, since pydantic is slow to import

        warn_of_misspelt_methods(type(self), TrainingBaseSession, _OVERRIDABLE)
        source = RunSource(
            *(runs_parent_dir, create_run_dir_afresh, source_run_dir_tag, source_network, tag_postfix, source_strict)
        )
        with errors_for_torchrun():
            self._config = validate_config(config)
            self.config_session = self._config.session
            self.config_data = self._config.data
            self.config_metrics = self._config.metrics
            self.config_network = self._config.network
            self.processes, self.device = join_with_device(self.config_session.device_name)
            self._set_up(source_in_replay(source, self._config, type(self)), allow_config_changes)

    @classmethod
    def resume(cls, runs_parent_dir: str | Path | None = None, tag: str | None = None, **arguments: Any) -> Self:
        """Opens an earlier run to resume it, with the config that it saved.

        Args:
            runs_parent_dir: The folder of all run directories; None means ``runs`` in the current folder.
            tag: The name of the run directory; None means the newest run.
            **arguments: Additional arguments of a subclass's constructor.

        Returns:
            A session. Call it to continue training.

        Raises:
            RunDirectoryError: If there is no such run, or it ended before its config was saved.
        """

        def find() -> tuple[Path, dict[str, Any]]:
            found = find_run(runs_parent_dir, tag)
            return found, saved_config(found)

        with errors_for_torchrun():
            directory, config = tell_result(join(), find, "the run to resume")
        return cls(
            config,
            runs_parent_dir=directory.parent,
            create_run_dir_afresh=False,
            source_run_dir_tag=directory.name,
            **arguments,
        )

    def verify(self, replay: int | None = None) -> Verification:
        """Checks the files of the run directory. It changes nothing.

        It needs no other process: with several, each that calls it checks and trains by itself.

        Args:
            replay: Number of training iterations to run twice from the newest whole checkpoint, to check whether both
                agree bit for bit; None runs none. Both run with the hooks of `default_hooks` and the config's plugins,
                except those that log.

        Returns:
            The result. ``is_good`` is True if everything is whole and agrees, and ``print`` shows the details.

        Raises:
            RunDirectoryError: If the run directory was removed.
            CheckpointError: If there is no whole checkpoint to replay from.
            ValueError: If ``replay`` is less than 1.
        """
        return verify_run(self._run_directory.path, replay, self._reopened)

    def default_hooks(self) -> list[object]:
        """Returns the hooks that the session registers, in the order in which they are called."""
        session = self.config_session
        has_several = self.processes.count > 1
        has_parts = has_several or session.mini_batch_parts is not None or self._number_of_parts > 1
        return [
            *([standard.ProcessErrors()] if has_several else []),  # first: others look for what it writes
            standard.SeedCapture(),
            *([standard.DeterministicAlgorithms()] if session.deterministic else []),
            standard.ConfigSnapshot(),
            standard.NetworkSummary(),
            standard.Rehearsal(),  # before the hooks that write
            *([standard.MiniBatchParts(self._number_of_parts, self._size_function, self._held)] if has_parts else []),
            *([standard.ShardedTraining()] if self._sharded is not None else []),
            standard.Metrics(f"{session.metrics_every_n_iterations}it"),
            standard.LogValues(f"{session.log_every_n_iterations}it"),
            # After LogValues, so the curve shows the NaN.
            standard.NanGuard() if session.nan_policy == "raise" else standard.NanSkip(session.nan_policy == "stop"),
            standard.UncalledHooks(),
            standard.MetricAverages(),
            self._best_validation(),
            # Before Checkpoint: it ends the program after the checkpoint is saved.
            standard.Interruption(session.preemption_signal),
            standard.Charts(),
            standard.TensorBoard(),
            standard.Console(),
            standard.RunRecord(),  # before Checkpoint: a resumed run truncates its record to the checkpoint
            standard.Checkpoint(session.checkpoint_intervals),
        ]

    @property
    def hooks(self) -> Mapping[str, object]:
        """The registered hooks by name, in the order in which they are called. Read-only."""
        return self.engine.hooks

    def register(self, hook: object, name: str | None = None) -> str:
        """Adds a hook after the registered hooks; see `Engine.register`."""
        with self._discarding_after_errors():
            return self.engine.register(hook, name)

    def unregister(self, name: str) -> object:
        """Removes a hook; see `Engine.unregister`."""
        with self._discarding_after_errors():
            return self.engine.unregister(name)

    @shadowed
    def turn(self) -> str | None:
        """The name of the optimizer whose turn it is; None with a single one, in validation and in predictions."""
        run: Run | None = vars(self).get("_run") if self._evaluated is None else self._evaluated
        return None if run is None else run.turn

    def log(self, name: str, value: torch.Tensor | float) -> None:
        """Logs a value of the current iteration, e.g. in `forward_pass`, or of the current epoch; see `Run.log`."""
        run = self._run if self._evaluated is None else self._evaluated
        run.log_as("the session", name, value)

    def __call__(self) -> RunSummary:
        """Trains from the current progress of the run to its last epoch or iteration.

        Returns:
            How the run ended.

        Raises:
            KeyboardInterrupt: After Ctrl-C, once the state of the training is saved. Its message says how to continue.
            Exception: Any error of the user's methods or of a hook, with notes on where it happened.
        """
        try:
            with one_thread_at_a_time(), self._holding_directory(), isolate_rng(self.device):
                self._check_can_train()
                self._run.stop_reason = self._run.stop_request = None
                check_alike(self.processes, lambda: facts_of_call(self.hooks))
                try:
                    self.engine.run(self._run)
                finally:
                    end_workers(phase.loader for phase in self._run.phases)
        except KeyboardInterrupt as interrupted:
            if not interrupted.args:  # raised at once by a second signal; the traceback shows where the program was
                raise
            # By Interruption, at the end of the run: its message says all, and a traceback would hide it.
            raise KeyboardInterrupt(*interrupted.args) from None
        return summarize(self._run, self.run_dir)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the attributes that a worker needs to collate, and `verify` to make a second session."""
        return {name: value for name, value in vars(self).items() if name not in _NOT_COPIED}

    def _set_up(self, source: RunSource, allow_config_changes: bool) -> None:
        choose = partial(choose_parts, self.config_session, source, self.processes.count, allow_config_changes)
        self._number_of_parts = tell_result(self.processes, choose, "the number of parts")
        self._sharded = sharded_network(self.processes, self.device, self.config_session.distributed)
        self._held = ReplicatedNetwork() if self._sharded is None else self._sharded
        step = TrainingStep(self.forward_pass, self.loss_function, self.get_loss_value, self.infer_mini_batch_size)
        on_logging_error = self.config_session.on_logging_error
        self.engine = Engine(hooks=self.default_hooks(), defaults=[step], on_logging_error=on_logging_error)
        for name in self.config_session.plugins:
            self.engine.register(load_plugin(name), name)
        self._open(source, allow_config_changes)

    def _reopened(self, directory: Path) -> Self:
        """Returns a session like this one, for any arguments of its constructor, that resumes another directory."""
        session = copy.copy(self)  # see __getstate__
        session.processes = SingleProcess()
        session._set_up(RunSource(directory.parent, False, directory.name, "best", None), allow_config_changes=False)
        return session

    @cached_property
    def _run(self) -> Run:
        # The datasets first, then the network: in this order, their errors are the easiest to understand.
        validation, session = self._validation_phases(), self.config_session
        run = Run(
            training=Phase("training", self._training_loader, is_training=True),
            max_epochs=maximum_of_epochs(session.num_epochs, session.num_iterations, self._training_loader),
            max_iterations=session.num_iterations,
            validation=validation,
            network=self.network,
            optimizer=self.optimizer,
            turns=self._turns(),
            metrics=self._metrics if self._metrics.names else None,
            loss_weights=self._loss_weights,
            device=self.device,
            config=self._config.as_given,
            run_directory=self._run_directory if self.processes.is_main else None,
            randomness=self._randomness,
            processes=self.processes,
        )
        for schedule in self._schedules():
            self.engine.register(schedule)
        ingredients = vars(self).get("ingredients")
        check_alike(self.processes, lambda: facts_of_run(run, self._datasets_by_phase, ingredients))
        return run
