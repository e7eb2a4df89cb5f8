"""How long the import of the session takes in addition to ``import torch``, and which packages it must not import.

``import torchbase`` alone imports nothing else: public names are imported on first access.

Importing torch creates so many objects that Python's garbage collector soon scans all of them, which takes as long as
many imports. So there is a row without garbage collection, too.
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
NOT_IMPORTED = ("tensorboard", "sklearn", "datasets", "matplotlib")
PROGRAM = """
import gc, json, sys, time
{before}
started_at = time.perf_counter()
{statement}
seconds = time.perf_counter() - started_at
print(json.dumps(dict(seconds=seconds, modules=sorted(sys.modules))))
"""


def measure() -> Outcome:
    """Measures the imports, each time in a new process."""
    sides = [
        Side("import torch", lambda: clock("import torch")),
        Side("import torchbase", lambda: clock("import torchbase"), is_difference=True),
        Side(SESSION, lambda: clock(SESSION), BOUND),
        Side(
            "that, after import torch in one process",
            lambda: clock(SESSION, before="import torch"),
            BOUND,
            is_difference=True,
        ),
        Side(
            "the same, without garbage collection",
            lambda: clock(SESSION, before="import torch; gc.disable()"),
            is_difference=True,
        ),
    ]
    outcome = compare(
        "import_time: additional time of imports",
        "Each time in a new process, measured inside it, with cached bytecode.",
        sides,
        REPETITIONS,
        MILLISECONDS,
    )
    outcome.rows.append(row_of_imported_packages())
    return outcome


def row_of_imported_packages() -> list[str]:
    """Returns the row that lists which of the packages are imported although they must not be."""
    imported = set(import_in_process(SESSION)["modules"]) & set(NOT_IMPORTED)
    found = ", ".join(sorted(imported)) or "none"
    return [f"of {', '.join(NOT_IMPORTED)} imported", found, NOTHING, NOTHING, "none", "NO" if imported else "yes"]


def clock(statement: str, before: str = "") -> Sample:
    """Measures the time of an import.

    Args:
        statement: The import.
        before: A statement that runs before the clock starts.
    """
    return Sample(import_in_process(statement, before)["seconds"])


def import_in_process(statement: str, before: str = "") -> dict[str, Any]:
    """Runs an import in a new process.

    Args:
        statement: The import.
        before: A statement that runs before it.

    Returns:
        The seconds it took, and the names of all modules afterwards.
    """
    program = [sys.executable, "-c", PROGRAM.format(statement=statement, before=before)]
    # Torch is installed with its bytecode. torchbase has to write its own, in the turn that doesn't count.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(program, check=True, capture_output=True, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout)
    return result
