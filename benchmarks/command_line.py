"""How long the command ``torchbase`` takes with a thousand runs, as a whole process."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import MILLISECONDS, Outcome, Sample, Side, compare

from torchbase.run_directory.record import Epoch, append_epoch, write_status
from torchbase.run_directory.status import Best, Status

RUNS = 1000
EPOCHS = 12
BOUND = 500.0
REPETITIONS = 11
MAIN = "import sys; from torchbase.command_line import main; sys.exit(main())"
PHASES = ("training", "validation-valid", "validation-noisy", "validation-test")


def measure() -> Outcome:
    """Measures the whole process; the files are in the page cache after the first turn."""
    with TemporaryDirectory() as folder:
        parent = Path(folder, "runs")
        tags = [make_run(parent, number) for number in range(RUNS)]
        commands = {
            f"torchbase runs, of {RUNS:,}": ["runs", str(parent)],
            f"torchbase runs --sort --json, of {RUNS:,}": ["runs", str(parent), "--sort", "learning_rate", "--json"],
            "torchbase show": ["show", str(parent / tags[0])],
            "torchbase compare, two runs": ["compare", str(parent / tags[0]), str(parent / tags[1])],
            "torchbase hooks": ["hooks"],
        }
        sides = [Side("python -c pass", lambda: clock(["-c", "pass"]))]
        for name, arguments in commands.items():
            sides.append(
                Side(
                    name,
                    lambda arguments=arguments: clock(["-c", MAIN, *arguments]),  # type: ignore[misc]
                    BOUND,
                    is_difference=True,
                )
            )
        return compare(
            "command_line: reading runs",
            "Each time in a new process, from its start to its end, with the output to a pipe and cached bytecode; "
            f"{RUNS:,} artificial runs of {EPOCHS} epochs. The bound is for the whole process.",
            sides,
            REPETITIONS,
            MILLISECONDS,
        )


def clock(arguments: list[str]) -> Sample:
    """Measures the time of a process.

    Args:
        arguments: The arguments of Python.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
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
    hour, minute = divmod(number, 60)
    folder = parent / f"2026-11-22_{hour:02d}-{minute:02d}-00_host"
    (folder / "states").mkdir(parents=True)
    (folder / ".lock").touch()
    session = {"device_name": "cpu", "num_epochs": EPOCHS, "mini_batch_size": draw.choice([16, 32]), "seed": number}
    config = {
        "session": {**session, "learning_rate": draw.choice([0.001, 0.003, 0.01])},
        "data": {"portions": [0.7, 0.15, 0.15], "noise": 1.0},
        "network": {"architecture": "Network", "channels": draw.choice([8, 16, 32]), "dropout": 0.2},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    for epoch in range(1, EPOCHS + 1):
        for phase in PHASES:
            append_epoch(folder, Epoch(epoch, phase, epoch, {"loss": draw.random(), "accuracy": draw.random()}))
    best_losses = {phase: Best(draw.random(), draw.randint(1, EPOCHS)) for phase in PHASES[1:]}
    now = "2026-11-22T14:03:55+01:00"
    write_status(
        folder, Status("finished", None, EPOCHS, EPOCHS, EPOCHS * 40, best_losses, now, None, now, os.getpid(), "host")
    )
    return folder.name
