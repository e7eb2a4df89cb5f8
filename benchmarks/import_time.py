"""What importing the session costs beyond ``import torch``, and what it leaves alone.

``import torchbase`` alone imports nothing else: the public names are imported when they are first asked for.

Importing torch makes so many objects that soon after it Python looks through all of them for garbage, which takes as
long as many an import. So there is a row without garbage collection, too.
"""

import json
import os
import subprocess
import sys
from typing import Any

from measuring import MILLISECONDS, NOTHING, Outcome, Sample, Side, compare

REPETITIONS = 11
BOUND = 150.0
SESSION = "from torchbase import TrainingBaseSession"
LEFT_ALONE = ("tensorboard", "sklearn", "datasets", "matplotlib")
PROGRAM = """
import gc, json, sys, time
{before}
began_at = time.perf_counter()
{statement}
seconds = time.perf_counter() - began_at
print(json.dumps(dict(seconds=seconds, modules=sorted(sys.modules))))
"""


def measure() -> Outcome:
    """Measures the imports, each time in a process of its own."""
    sides = [
        Side("import torch", lambda: clock("import torch")),
        Side("import torchbase", lambda: clock("import torchbase"), is_difference=True),
        Side(SESSION, lambda: clock(SESSION), BOUND),
        Side(
            "that, behind import torch in one process",
            lambda: clock(SESSION, before="import torch"),
            BOUND,
            is_difference=True,
        ),
        Side(
            "likewise, without garbage collection",
            lambda: clock(SESSION, before="import torch; gc.disable()"),
            is_difference=True,
        ),
    ]
    outcome = compare(
        "import_time: what importing adds",
        "Each time in a new process, timed inside it, bytecode being cached.",
        sides,
        REPETITIONS,
        MILLISECONDS,
    )
    outcome.rows.append(row_of_what_is_left_alone())
    return outcome


def row_of_what_is_left_alone() -> list[str]:
    """Gives the row of the table that says which of the modules to be left alone are imported."""
    imported = set(import_afresh(SESSION)["modules"]) & set(LEFT_ALONE)
    found = ", ".join(sorted(imported)) or "none"
    return [f"of {', '.join(LEFT_ALONE)} imported", found, NOTHING, NOTHING, "none", "NO" if imported else "yes"]


def clock(statement: str, before: str = "") -> Sample:
    """Takes the time of an import.

    Args:
        statement: The import.
        before: What is done before the clock starts.
    """
    return Sample(import_afresh(statement, before)["seconds"])


def import_afresh(statement: str, before: str = "") -> dict[str, Any]:
    """Imports something in a new process.

    Args:
        statement: The import.
        before: What is done before.

    Returns:
        The seconds it took, and the names of all modules that were there afterwards.
    """
    program = [sys.executable, "-c", PROGRAM.format(statement=statement, before=before)]
    # Torch comes with its bytecode; torchbase has to be let keep its own. The first turn, which doesn't count, does it.
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(program, check=True, capture_output=True, text=True, env=surroundings)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
