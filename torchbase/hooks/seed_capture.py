"""Keeps the seed of the run, and seeds the global random streams of each iteration."""

from collections.abc import Callable

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.files.durable import read_json, write_json
from torchbase.randomness import Randomness, SeedSeries, make_seed_function, seed_streams
from torchbase.run_directory.directory import RunDirectory

SEEDS_FILE = "states/seeds.json"


class SeedCapture:
    """Makes what the network draws (dropout, say) a function of the seed, the phase and the iteration.

    So a validation phase, a logger, or whatever else draws between two iterations, changes nothing in what is learnt.
    """

    def __init__(self) -> None:
        self._series: SeedSeries | None = None
        self._seed: Callable[[int], None] = seed_streams

    @hookimpl
    def on_setup_start(self, run_directory: RunDirectory, randomness: Randomness) -> None:
        """Keeps the seed in ``states/seeds.json``."""
        file, seed = run_directory.file(SEEDS_FILE), {"seed": randomness.seed}
        if not file.exists() or read_json(file) != seed:
            write_json(file, seed)

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Prepares the seeds of the phase's iterations."""
        self._series = run.randomness.series("iteration", phase.name) if run.randomness is not None else None
        self._seed = make_seed_function(run.device)

    # Last, so that what other hooks draw at the start of an iteration doesn't count.
    @hookimpl(trylast=True)
    def on_iteration_start(self, phase: Phase) -> None:
        """Seeds the global streams."""
        if self._series is not None:
            self._seed(self._series.at(phase.progress.iterations))
