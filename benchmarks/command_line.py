"""How long the command ``torchbase`` takes with a thousand runs, as a whole process."""

import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import MILLISECONDS, Outcome, Sample, Side, compare

from torchbase.run_directory.record import Epoch, write_status
from torchbase.run_directory.status import Best, Status
from torchbase.run_directory.value_ranges import extend

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
    day, second = divmod(number, 86_400)
    now = datetime(2026, 11, 22, tzinfo=UTC) + timedelta(days=day, seconds=second)
    folder = parent / f"{now:%Y-%m-%d_%H-%M-%S}_host"
    (folder / "states").mkdir(parents=True)
    (folder / ".lock").touch()
    session = {"device_name": "cpu", "num_epochs": EPOCHS, "mini_batch_size": draw.choice([16, 32]), "seed": number}
    config = {
        "session": {**session, "learning_rate": draw.choice([0.001, 0.003, 0.01]), "group": f"sweep {number % 7}"},
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
