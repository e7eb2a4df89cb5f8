"""How long a checkpoint of 100 MB delays the training, compared with ``torch.save`` and fsync of the same state.

The delay is measured in the training itself: how much longer the iteration with the checkpoint takes than those before
it, and in another row, how much longer all iterations until the next checkpoint take.
"""

import os
import statistics
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from measuring import NOTHING, Outcome, Sample, Side, take_turns

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.checkpoints.run_state import gather
from torchbase.engine.training_step import TrainingStep
from torchbase.hooks import Checkpoint
from torchbase.run_directory.directory import RunDirectory

FEATURES = 2956  # the weights with the two averages of Adam are 100 MiB
EVERY = 20
REPETITIONS = 9
BOUND = 0.25
PLAIN = "torch.save and fsync"


def measure() -> Outcome:
    """Measures in turns; the training of a turn yields three figures."""
    trained: list[tuple[float, float, float]] = []
    sides = [
        Side("training", lambda: Sample(train(trained))),
        Side(PLAIN, lambda: Sample(save_plainly())),
    ]
    samples = take_turns(sides, REPETITIONS)
    plain = [sample.each for sample in samples[PLAIN]]
    first, later, until_next = zip(*trained[-REPETITIONS:], strict=True)
    return Outcome(
        "checkpoint_hold_up: a checkpoint of 100 MB",
        f"A network of {FEATURES:,} by {FEATURES:,} weights with Adam on the CPU; a checkpoint every {EVERY} "
        f"iterations, on the disk of the current folder. {REPETITIONS} repetitions in turns; times {PLAIN}: the median "
        "and the quartiles of the ratios within each turn. While a checkpoint is written, the iterations share the "
        "processors and the memory with it; the last row is how much longer they take, including the delay.",
        ["what", "median ms", "minimum", f"times {PLAIN}", "bound", "met?"],
        [
            row(PLAIN, plain, None, None),
            row("delay by the first checkpoint of a run", list(first), plain, BOUND),
            row("delay by a later checkpoint", list(later), plain, BOUND),
            row(f"additional time of {EVERY} iterations with a checkpoint", list(until_next), plain, None),
        ],
    )


def row(what: str, seconds: list[float], plain: list[float] | None, bound: float | None) -> list[str]:
    """Returns the cells of one row."""
    cells = [what, f"{statistics.median(seconds) * 1e3:.1f}", f"{min(seconds) * 1e3:.1f}"]
    if plain is None:
        return [*cells, NOTHING, NOTHING, NOTHING]
    ratios = [training / saving for training, saving in zip(seconds, plain, strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    is_met = NOTHING if bound is None else "yes" if ratio <= bound else "NO"
    return [*cells, f"x{ratio:.2f} ({low:.2f} to {high:.2f})", NOTHING if bound is None else f"x{bound}", is_met]


def train(figures: list[tuple[float, float, float]]) -> float:
    """Trains with two checkpoints and appends how long they took; returns the seconds of the whole training."""
    clock = Clock()
    started_at = time.perf_counter()
    with TemporaryDirectory(dir=".") as folder:
        run, step = new_run(3 * EVERY)
        run.run_directory = RunDirectory.create(folder)
        Engine(hooks=[clock, Checkpoint(f"{EVERY}it")], defaults=[step]).run(run)
    durations = [later - earlier for earlier, later in pairwise(clock.starts)]
    usual = statistics.median(durations[EVERY // 2 : EVERY - 1])
    first, later = (durations[number * EVERY - 1] - usual for number in (1, 2))
    figures.append((first, later, sum(durations[2 * EVERY - 1 : 3 * EVERY - 1]) - EVERY * usual))
    return time.perf_counter() - started_at


def save_plainly() -> float:
    """Saves the same state with torch.save, and flushes it to the disk; returns the seconds."""
    run, step = new_run(1)
    Engine(defaults=[step]).run(run)
    state = gather(run)
    with TemporaryDirectory(dir=".") as folder:
        started_at = time.perf_counter()
        with Path(folder, "state.pth").open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        return time.perf_counter() - started_at


class Clock:
    """Records when each iteration starts, so that the hooks of the previous iteration are included."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    @hookimpl
    def on_iteration_start(self) -> None:
        """Records the time."""
        self.starts.append(time.perf_counter())


def new_run(iterations: int) -> tuple[Run, TrainingStep]:
    """Creates a run of one epoch, and the hook that runs its iterations."""
    network = torch.nn.Linear(FEATURES, FEATURES, bias=False)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    step = TrainingStep(
        forward_pass=lambda batch: {"output": network(batch)},
        loss_function=lambda *, output: output.square().mean(),
        get_loss_value=lambda *, loss_tensor: loss_tensor,
        infer_mini_batch_size=len,
    )
    batches: list[Any] = [torch.randn(4, FEATURES)] * iterations
    training = Phase("training", batches, is_training=True)
    return Run(training, max_epochs=1, network=network, optimizer=optimizer), step
