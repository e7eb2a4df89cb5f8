"""The preset: a user writes what is theirs, and the standard hooks do the rest."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch

from torchbase import hooks as standard
from torchbase.checkpoints.storage import has_results
from torchbase.checkpoints.verification import Verification, verify_run
from torchbase.data.phase_loader import end_workers
from torchbase.engine.entry_points import load_plugin
from torchbase.engine.loop import Engine
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import TrainingStep
from torchbase.randomness import Randomness, fence
from torchbase.run_directory.config_snapshot import check_config
from torchbase.session import building
from torchbase.session.evaluation import SessionEvaluation
from torchbase.session.run_source import Runs, choose_seed, find_run, saved_config
from torchbase.session.summary import RunSummary, summarize

WHAT_RUNS_THE_RUN = frozenset(
    {"engine", "network", "optimizer", "dataloader_train", "dataloader_valid_dict"}
    | {"_run_directory", "_run", "_dataloaders", "_datasets", "_metrics", "_evaluated"}
)


class TrainingBaseSession(SessionEvaluation):
    """A training run of the user's network on the user's data.

    Subclass it, write the abstract methods, give it a config and call it. Making a session makes its run directory; the
    data, the network and the optimizer are built when they are first needed, so that a subclass may set attributes of
    its own after ``super().__init__(config)``.

    Attributes:
        config_session: The validated ``session`` section, by attribute (``self.config_session.learning_rate``).
        config_data: The ``data`` section.
        config_metrics: The ``metrics`` section.
        config_network: The ``network`` section.
        device: Where the network lives.
        engine: The engine that runs the epochs.
        run_dir: The path of the run directory.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        runs_parent_dir: str | Path | None = None,
        create_run_dir_afresh: bool = True,
        source_run_dir_tag: str | None = None,
        tag_postfix: str | None = None,
        source_network: Literal["best", "last"] = "best",
        allow_config_changes: bool = False,
    ) -> None:
        """Validates the config and makes, or opens, the run directory.

        Args:
            config: The config dictionary; it is not changed.
            runs_parent_dir: The folder of all run directories; ``runs`` in the current folder without one.
            create_run_dir_afresh: Whether this is a new run. With False the run ``source_run_dir_tag`` goes on.
            source_run_dir_tag: The run to go on with, or, for a new run, the run whose network it begins with.
            tag_postfix: What to append to the name of the new run directory.
            source_network: Which network of the source run a new run begins with: its best one, or its last.
            allow_config_changes: Whether a run goes on with a config that makes it another experiment. The changes are
                recorded in the run directory.

        Raises:
            ConfigError: If the config has mistakes; all of them are named at once. If it differs from that of the run
                that goes on in more than what may change (`torchbase.run_directory.config_snapshot.MAY_CHANGE`).
            RunDirectoryError: If the run directory can't be made, opened or locked.
            HookError: If a hook of `default_hooks` can't be registered.
            StepError: If `loss_function` can't be called by keyword.
        """
        from torchbase.run_directory.config import validate_config  # late, since pydantic is slow to import
        from torchbase.run_directory.devices import choose_device

        self._config = validate_config(config)
        self.config_session = self._config.session
        self.config_data = self._config.data
        self.config_metrics = self._config.metrics
        self.config_network = self._config.network
        self.device = choose_device(self.config_session.device_name)
        self._set_up(
            Runs(runs_parent_dir, create_run_dir_afresh, source_run_dir_tag, source_network, tag_postfix),
            allow_config_changes,
        )

    @classmethod
    def resume(cls, runs_parent_dir: str | Path | None = None, tag: str | None = None, **arguments: Any) -> Self:
        """Opens a run to go on with it, with the config that it kept.

        Args:
            runs_parent_dir: The folder of all run directories; ``runs`` in the current folder without one.
            tag: The name of the run directory; without one the newest run.
            **arguments: What the constructor of a subclass takes beside those of this class.

        Returns:
            A session, to be called.

        Raises:
            RunDirectoryError: If there is no such run, or it was ended before it kept its config.
        """
        directory = find_run(runs_parent_dir, tag)
        config = saved_config(directory)
        return cls(
            config,
            runs_parent_dir=directory.parent,
            create_run_dir_afresh=False,
            source_run_dir_tag=directory.name,
            **arguments,
        )

    def verify(self, replay: int | None = None) -> Verification:
        """Checks what the run directory keeps; changes nothing in it.

        Args:
            replay: How many training iterations to do twice from the newest whole checkpoint, with the hooks of
                `default_hooks` and the config's plugins but without those that log, to see whether both agree bit for
                bit; None does none.

        Returns:
            What was found; ``is_good`` says whether all is well, and ``print`` shows it.

        Raises:
            RunDirectoryError: If the run directory is gone.
            CheckpointError: If there is no whole checkpoint to replay from.
            ValueError: If ``replay`` is less than 1.
        """
        return verify_run(self._run_directory.path, replay, self._reopened)

    def default_hooks(self) -> list[object]:
        """Gives the hooks that the session registers, in the order in which they run."""
        session = self.config_session
        return [
            standard.SeedCapture(),
            *([standard.DeterministicAlgorithms()] if session.deterministic else []),
            standard.ConfigSnapshot(),
            standard.Rehearsal(),  # before those that write
            standard.Metrics(f"{session.metrics_every_n_iterations}it"),
            standard.LogValues(f"{session.log_every_n_iterations}it"),
            # After the values are recorded, so that the curve shows the NaN.
            standard.NanGuard() if session.nan_policy == "raise" else standard.NanSkip(session.nan_policy == "stop"),
            standard.MetricAverages(),
            standard.BestValidation(),
            standard.Interruption(),  # before Checkpoint: it ends the program once that has written
            standard.Charts(),
            standard.TensorBoard(),
            standard.Console(),
            standard.RunRecord(),  # before Checkpoint: what is more than that has is cut away, what is less is lost
            standard.Checkpoint(session.checkpoint_intervals),
        ]

    @property
    def hooks(self) -> Mapping[str, object]:
        """The registered hooks by name, in the order in which they run; read-only."""
        return self.engine.hooks

    def register(self, hook: object, name: str | None = None) -> str:
        """Adds a hook behind those that are there; see `Engine.register`."""
        return self.engine.register(hook, name)

    def unregister(self, name: str) -> object:
        """Takes a hook out; see `Engine.unregister`."""
        return self.engine.unregister(name)

    def log(self, name: str, value: torch.Tensor | float) -> None:
        """Logs a value of the current iteration, e.g. from `forward_pass`, or of the current epoch; see `Run.log`."""
        (self._run if self._evaluated is None else self._evaluated).log(name, value)

    def __call__(self) -> RunSummary:
        """Trains, from where the run stands to its last epoch.

        Returns:
            How the run ended.

        Raises:
            KeyboardInterrupt: After Ctrl-C, when what was learnt is kept.
            Exception: Whatever the user's methods or a hook raise, with notes on where it happened.
        """
        self._run_directory.lock()  # before the clean-up: what another session holds isn't this one's to remove
        with self._cleaning_up_after_errors(), fence(self.device):
            self._run.stop_reason = None
            try:
                self.engine.run(self._run)
            finally:
                end_workers(phase.loader for phase in self._run.phases)
            self._run_directory.unlock()
        return summarize(self._run, self.run_dir)

    def __getstate__(self) -> dict[str, Any]:
        """Gives all but what runs the run: what a worker needs to collate, and `verify` for a second session."""
        return {name: value for name, value in vars(self).items() if name not in WHAT_RUNS_THE_RUN}

    def _set_up(self, runs: Runs, allow_config_changes: bool) -> None:
        step = TrainingStep(self.forward_pass, self.loss_function, self.get_loss_value, self.infer_mini_batch_size)
        on_logging_error = self.config_session.on_logging_error
        self.engine = Engine(hooks=self.default_hooks(), defaults=[step], on_logging_error=on_logging_error)
        for name in self.config_session.plugins:
            self.engine.register(load_plugin(name), name)
        self._runs = runs
        self._run_directory = runs.open()
        self._run_directory.writes.on_error = self.config_session.on_checkpoint_error
        self.run_dir = str(self._run_directory.path)
        with self._cleaning_up_after_errors():
            check_config(self._run_directory.path, self._config, allow_config_changes)
            seed = choose_seed(self.config_session.seed, self._run_directory, allow_config_changes)
            self._randomness = Randomness(seed)
            self.engine.call.on_setup_start(
                run_directory=self._run_directory,
                config=self._config,
                randomness=self._randomness,
                resuming=not runs.afresh,
                session_class=type(self),
            )
        if not runs.afresh:  # it is only looked at until it goes on; a notebook may open it again meanwhile
            self._run_directory.unlock()

    def _reopened(self, directory: Path) -> Self:
        """Gives a session like this one, whatever its constructor takes, that goes on with another directory."""
        session = copy.copy(self)  # without what runs the run, see __getstate__
        session._set_up(Runs(directory.parent, False, directory.name, "best", None), allow_config_changes=False)
        return session

    @cached_property
    def _run(self) -> Run:
        # The datasets first, the network next: in this order their mistakes are the easiest to understand.
        validation = tuple(
            Phase(
                f"{building.VALIDATION_PREFIX}{name}",
                self.dataloader_valid_dict[name],
                votes=name in self.datasets_valid_dict.voting_names,
                every=self.datasets_valid_dict.interval_of(name),
            )
            for name in self.datasets_valid_dict
        )
        run = Run(
            training=Phase("training", self.dataloader_train, is_training=True),
            max_epochs=self.config_session.num_epochs,
            validation=validation,
            network=self.network,
            optimizer=self.optimizer,
            metrics=self._metrics if self._metrics.names else None,
            device=self.device,
            config=self._config.as_given,
            run_directory=self._run_directory,
            randomness=self._randomness,
        )
        schedule = self._schedule()
        if schedule is not None:
            self.engine.register(schedule)
        return run

    @contextmanager
    def _cleaning_up_after_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._run_directory.remove_unless(has_results)
            self._run_directory.unlock()
            raise
