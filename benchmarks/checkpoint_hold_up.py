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


def measure(device: str = "cpu", features: int = FEATURES, repetitions: int = REPETITIONS) -> Outcome:
    """Measures in turns; the training of a turn yields three figures.

    Args:
        device: The device of the network.
        features: The number of rows and of columns of its weights.
        repetitions: The number of turns that count.
    """
    trained: list[tuple[float, float, float]] = []
    sides = [
        Side("training", lambda: Sample(train(trained, device, features))),
        Side(PLAIN, lambda: Sample(save_plainly(device, features))),
    ]
    samples = take_turns(sides, repetitions)
    plain = [sample.each for sample in samples[PLAIN]]
    first, later, until_next = zip(*trained[-repetitions:], strict=True)
    return Outcome(
        f"checkpoint_hold_up: a checkpoint of {3 * 4 * features**2 / 1e6:,.0f} MB",
        f"A network of {features:,} by {features:,} weights with Adam on {device}; a checkpoint every {EVERY} "
        f"iterations, on the disk of the current folder. {repetitions} repetitions in turns; times {PLAIN}: the median "
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


def train(figures: list[tuple[float, float, float]], device: str, features: int) -> float:
    """Trains with two checkpoints and appends how long they took; returns the seconds of the whole training."""
    clock = Clock()
    started_at = time.perf_counter()
    with TemporaryDirectory(dir=".") as folder:
        run, step = new_run(3 * EVERY, device, features)
        run.run_directory = RunDirectory.create(folder)
        Engine(hooks=[clock, Checkpoint(f"{EVERY}it")], defaults=[step]).run(run)
    durations = [later - earlier for earlier, later in pairwise(clock.starts)]
    usual = statistics.median(durations[EVERY // 2 : EVERY - 1])
    first, later = (durations[number * EVERY - 1] - usual for number in (1, 2))
    figures.append((first, later, sum(durations[2 * EVERY - 1 : 3 * EVERY - 1]) - EVERY * usual))
    return time.perf_counter() - started_at


def save_plainly(device: str, features: int) -> float:
    """Saves the same state with torch.save, and flushes it to the disk; returns the seconds."""
    run, step = new_run(1, device, features)
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


def new_run(iterations: int, device: str, features: int) -> tuple[Run, TrainingStep]:
    """Creates a run of one epoch, and the hook that runs its iterations."""
    network = torch.nn.Linear(features, features, bias=False, device=device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    step = TrainingStep(
        forward_pass=lambda batch: {"output": network(batch)},
        loss_function=lambda *, output: output.square().mean(),
        get_loss_value=lambda *, loss_tensor: loss_tensor,
        infer_mini_batch_size=len,
    )
    batches: list[Any] = [torch.randn(4, features, device=device)] * iterations
    training = Phase("training", batches, is_training=True)
    return Run(training, max_epochs=1, network=network, optimizer=optimizer, device=torch.device(device)), step
