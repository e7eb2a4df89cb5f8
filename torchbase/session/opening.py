"""How a session opens its run directory, chooses what all of its processes share, and fires the first event."""

from functools import partial
from typing import TYPE_CHECKING

import torch

from torchbase.engine.loop import Engine
from torchbase.engine.run_table import table_of_averages
from torchbase.errors import RunDirectoryError
from torchbase.randomness.run_randomness import Randomness
from torchbase.run_directory.config_snapshot import check_config
from torchbase.session.closing import SessionClosing
from torchbase.session.constructor import set_by_constructor
from torchbase.session.first_weights import FirstWeights
from torchbase.session.likeness import check_alike, facts_of_program
from torchbase.session.run_source import RunSource, choose_parts, choose_seed
from torchbase.session.together import open_together, tell_result

if TYPE_CHECKING:
    from torchbase.run_directory.config import Config


class SessionOpening(SessionClosing):
    """The run directory of a session: made or opened by the main process, and followed by the others."""

    device: torch.device = set_by_constructor()
    engine: Engine = set_by_constructor()
    run_dir: str = set_by_constructor()
    _config: "Config" = set_by_constructor()
    _number_of_parts: int = set_by_constructor()
    _randomness: Randomness = set_by_constructor()
    _resumes: bool = set_by_constructor()
    _source: RunSource = set_by_constructor()
    _first_weights: FirstWeights = set_by_constructor()

    def __repr__(self) -> str:
        """Returns one line: the run directory and, once the parts of the run are built, how far it is."""
        run, where = vars(self).get("_run"), vars(self).get("run_dir")
        state = str(run) if run is not None else f"in {where}" if where is not None else "not set up"
        return f"<{type(self).__name__}: {state}>"

    def _repr_html_(self) -> str:
        run = vars(self).get("_run")
        averages = {} if run is None else {phase.name: phase.averages for phase in run.phases}
        return table_of_averages(averages, {} if run is None else run.best_losses, repr(self))

    def _open(self, source: RunSource, allow_config_changes: bool) -> None:
        self._source = source
        check_alike(self.processes, lambda: facts_of_program(self._config, self.engine.hooks, type(self), self.device))
        self._run_directory = open_together(self.processes, source.open)
        self._run_directory.writes.on_error = self._config.session.on_checkpoint_error
        self.run_dir = str(self._run_directory.path)
        with self._cleaning_up_after_errors():
            choose = partial(self._checked_seed, allow_config_changes)
            seed, self._resumes, self._first_weights = tell_result(self.processes, choose, "the seed")
            self._randomness = Randomness(seed)
            self._fire_setup()
        if not source.is_new:  # unlocked until the session is called: a notebook may open the run again
            self._run_directory.unlock()

    def _checked_seed(self, allow_config_changes: bool) -> tuple[int, bool, FirstWeights]:
        """Returns the seed, whether the session goes on with an earlier run, and the weights with which it starts."""
        # Again, since another session may have begun the run of this name before it was locked.
        parts = choose_parts(self._config.session, self._source, self.processes.count, allow_config_changes)
        if parts != self._number_of_parts:
            raise RunDirectoryError(
                f"Another session has begun the run {self.run_dir} meanwhile, in {parts} parts per mini-batch in place "
                f"of {self._number_of_parts}. To fix, start this program again, or set session.mini_batch_parts."
            )
        check_config(self._run_directory.path, self._config, allow_config_changes)
        seed = choose_seed(self._config.session.seed, self._run_directory, allow_config_changes)
        first_weights = FirstWeights(self._run_directory, self._source.of_network)
        return seed, self._source.resumes(self._run_directory), first_weights

    def _fire_setup(self) -> None:
        self.engine.call_hooks_of(self.processes)
        fire = partial(
            self.engine.call.on_setup_start,
            run_directory=self._run_directory,
            config=self._config,
            randomness=self._randomness,
            resuming=self._resumes,
            session_class=type(self),
            processes=self.processes,
        )

        def set_up() -> None:
            self._first_weights.save(self._run_directory)  # before the config, with which the run can be resumed
            fire()

        tell_result(self.processes, set_up, "the setup of the run")  # first, since it makes the files of the run
        if not self.processes.is_main:
            fire()
        # Nothing of a setup may come after a slip of the main process that removes the directory.
        self.processes.gather(None, "the end of the setup")
        self._run_directory.end_setup()
