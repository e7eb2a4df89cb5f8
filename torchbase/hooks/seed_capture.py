"""Saves the seed of the run, and seeds the global random streams in each iteration."""

from collections.abc import Callable, Generator
from typing import Any

from torchbase.distributed.processes import Processes
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.files.durable import read_json, write_json
from torchbase.randomness.run_randomness import Randomness
from torchbase.randomness.seeds import SeedSeries
from torchbase.randomness.streams import make_seed_function, seed_streams
from torchbase.run_directory.directory import RunDirectory

SEEDS_FILE = "states/seeds.json"


class SeedCapture:
    """Seeds the global random streams in each iteration, and saves the seed of the run.

    The random numbers of an iteration, such as those of dropout, depend only on the seed, the phase and the iteration.
    Random numbers that a validation phase or a hook draws between iterations don't affect the training.
    """

    def __init__(self) -> None:
        self._series: SeedSeries | None = None
        self._seed: Callable[[int], None] = seed_streams

    @hookimpl
    def on_setup_start(self, run_directory: RunDirectory, randomness: Randomness, processes: Processes) -> None:
        """Saves the seed in ``states/seeds.json``."""
        file, seed = run_directory.file(SEEDS_FILE), {"seed": randomness.seed}
        if processes.is_main and (not file.exists() or read_json(file) != seed):
            write_json(file, seed)

    @hookimpl
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Prepares the seeds for the iterations of the phase."""
        self._series = run.randomness.series("iteration", phase.name) if run.randomness is not None else None
        self._seed = make_seed_function(run.device)

    # Last, so that random numbers that other hooks draw at the start of an iteration have no effect.
    @hookimpl(trylast=True)
    def on_iteration_start(self, phase: Phase) -> None:
        """Seeds the global streams."""
        if self._series is not None:
            self._seed(self._series.at(phase.progress.iterations))

    # First, so that a hook that repeats a part finds the streams seeded.
    @hookimpl(wrapper=True, tryfirst=True)
    def run_part(self, run: Run, phase: Phase, part: int) -> Generator[None, Any, Any]:
        """Seeds the global streams for a part. The first part has the seed of the iteration or its turn."""
        if self._series is not None and run.randomness is not None and part > 0:
            turn = () if run.turn is None else (run.turn,)
            self._seed(run.randomness.derive("iteration", phase.name, phase.progress.iterations, part, *turn))
        return (yield)
