"""Keeps the seed of the run, and seeds the global random streams of each phase."""

from torchbase.durable_files import write_json
from torchbase.hookspecs import hookimpl
from torchbase.randomness import Randomness, seed_streams
from torchbase.run import Phase, Run
from torchbase.run_directory import RunDirectory

SEEDS_FILE = "states/seeds.json"


class SeedCapture:
    """Makes what the network draws (dropout, say) a function of the seed, the phase and the epoch.

    So a validation phase, or whatever else draws between two training phases, changes nothing in what is learnt.
    """

    @hookimpl
    def on_setup_start(self, run_directory: RunDirectory, randomness: Randomness, resuming: bool) -> None:
        """Keeps the seed in ``states/seeds.json``."""
        if not resuming:
            write_json(run_directory.file(SEEDS_FILE), {"seed": randomness.seed})

    # Last, so that what other hooks draw at the start of a phase doesn't count.
    @hookimpl(trylast=True)
    def on_phase_start(self, run: Run, phase: Phase) -> None:
        """Seeds the global streams."""
        if run.randomness is not None:
            seed_streams(run.randomness.derive("phase", phase.name, run.epoch), run.device)
