"""How long the command ``torchbase`` takes with a thousand and with twenty thousand runs, as a whole process."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import MILLISECONDS, Outcome, Sample, Side, compare

from torchbase.command_line.run_index import SECONDS_UNTIL_SETTLED
from torchbase.run_directory.record import Epoch, write_status
from torchbase.run_directory.status import Best, Status
from torchbase.run_directory.value_ranges import extend

RUNS = 1000
MANY_RUNS = 20_000
EPOCHS = 12
BOUND = 500.0
BOUND_OF_MANY = 5000.0
REPETITIONS = 7
MAIN = "import sys; from torchbase.command_line import main; sys.exit(main())"
GROUPS = [f"sweep {number}" for number in range(7)]
PHASES = ("training", "validation-valid", "validation-noisy", "validation-test")


def measure() -> Outcome:
    """Measures the whole process; the files are in the page cache after the first turn, which doesn't count."""
    with TemporaryDirectory() as folder:
        parent, many = Path(folder, "runs"), Path(folder, "many")
        tags = [make_run(parent, number) for number in range(RUNS)]
        for number in range(MANY_RUNS):
            make_run(many, number)
        time.sleep(SECONDS_UNTIL_SETTLED)  # only what hasn't changed for a while is in the index
        first, second = str(parent / tags[0]), str(parent / tags[1])
        keys = ["--sort", "valid/accuracy", "--show", "training/loss/last", "--where", "learning_rate<0.01"]
        commands = {
            f"torchbase runs, of {RUNS:,}": ["runs", str(parent)],
            f"torchbase runs, of {RUNS:,}, without an index": ["runs", str(parent)],
            f"torchbase runs --sort --show --where, of {RUNS:,}": ["runs", str(parent), *keys],
            f"torchbase runs --sort --json, of {RUNS:,}": ["runs", str(parent), "--sort", "learning_rate", "--json"],
            f"torchbase runs, of {MANY_RUNS:,}": ["runs", str(many)],
            f"torchbase runs, of {MANY_RUNS:,}, without an index": ["runs", str(many)],
            "torchbase show": ["show", first],
            "torchbase tail, of a finished run": ["tail", first],
            f"torchbase compare, two runs of a group, of {RUNS:,}": ["compare", first, second],
            "torchbase hooks": ["hooks"],
        }
        sides = [Side("python -c pass", lambda: clock(["-c", "pass"], folder))]
        for name, arguments in commands.items():
            bound = BOUND_OF_MANY if f"{MANY_RUNS:,}" in name else BOUND
            if "without an index" in name and f"{MANY_RUNS:,}" in name:
                bound = None
            sides.append(Side(name, _clock_of(arguments, folder, "without" in name), bound, is_difference=True))
        return compare(
            "command_line: reading runs",
            "Each time in a new process, from its start to its end, with the output to a pipe and cached bytecode; "
            f"artificial runs of {EPOCHS} epochs, in {len(GROUPS)} groups. The bound is for the whole process.",
            sides,
            REPETITIONS,
            MILLISECONDS,
        )


def _clock_of(arguments: list[str], folder: str, without_index: bool) -> Callable[[], Sample]:
    def measure_once() -> Sample:
        cache = Path(folder, "cache")
        aside = cache.with_name("aside")
        if without_index and cache.exists():
            cache.rename(aside)
        try:
            return clock(["-c", MAIN, *arguments], folder)
        finally:
            if aside.exists():
                shutil.rmtree(cache, ignore_errors=True)
                aside.rename(cache)

    return measure_once


def clock(arguments: list[str], folder: str) -> Sample:
    """Measures the time of a process.

    Args:
        arguments: The arguments of Python.
        folder: The folder for its cache.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["XDG_CACHE_HOME"] = str(Path(folder, "cache"))
    started_at = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, env=environment)
    return Sample(time.perf_counter() - started_at)


def make_run(parent: Path, number: int) -> str:
    """Creates the directory of a finished run, without checkpoints.

    Args:
        parent: The folder of all runs.
        number: The number of the run, which seeds its values.

    Returns:
        Its tag.
    """
    draw = random.Random(number)
    day, second = divmod(number, 86_400)
    now = datetime(2026, 11, 22, tzinfo=UTC) + timedelta(days=day, seconds=second)
    folder = parent / f"{now:%Y-%m-%d_%H-%M-%S}_host"
    (folder / "states").mkdir(parents=True)
    (folder / ".lock").touch()
    session = {"device_name": "cpu", "num_epochs": EPOCHS, "mini_batch_size": draw.choice([16, 32]), "seed": number}
    config = {
        "session": {
            **session,
            "learning_rate": draw.choice([0.001, 0.003, 0.01]),
            "group": GROUPS[number % len(GROUPS)],
        },
        "data": {"portions": [0.7, 0.15, 0.15], "noise": 1.0},
        "network": {"architecture": "Network", "channels": draw.choice([8, 16, 32]), "dropout": 0.2},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    epochs = [
        Epoch(epoch, phase, epoch, {"loss": draw.random(), "accuracy": draw.random()})
        for epoch in range(1, EPOCHS + 1)
        for phase in PHASES
    ]
    lines = "".join(f"{json.dumps(vars(epoch))}\n" for epoch in epochs)
    (folder / "epochs.jsonl").write_text(lines, encoding="utf-8")  # at once, which takes a tenth of the time
    values = extend({}, epochs)
    status = Status(
        state="finished",
        reason=None,
        epochs_done=EPOCHS,
        max_epochs=EPOCHS,
        iterations=EPOCHS * 40,
        best_losses={phase: Best(values[phase]["loss"].lowest, 1) for phase in PHASES[1:]},
        started_at=now.isoformat(),
        resumed_at=None,
        updated_at=(now + timedelta(seconds=60)).isoformat(),
        process_id=os.getpid(),
        host="host",
        seconds=60.0,
        epoch_seconds=5.0,
        values=values,
        directions={"loss": "min", "accuracy": "max"},
    )
    write_status(folder, status)
    return folder.name
