"""What ``import torchbase`` costs beyond ``import torch``, and what it leaves alone.

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
LEFT_ALONE = ("tensorboard", "sklearn", "datasets", "matplotlib")
PROGRAM = """
import gc, json, sys, time
{before}
began_at = time.perf_counter()
import {module}
seconds = time.perf_counter() - began_at
print(json.dumps(dict(seconds=seconds, modules=sorted(sys.modules))))
"""


def measure() -> Outcome:
    """Measures the imports, each time in a process of its own."""
    sides = [
        Side("import torch", lambda: clock("torch")),
        Side("import torchbase", lambda: clock("torchbase"), BOUND),
        Side(
            "import torchbase, behind import torch in one process",
            lambda: clock("torchbase", before="import torch"),
            BOUND,
            is_difference=True,
        ),
        Side(
            "likewise, without garbage collection",
            lambda: clock("torchbase", before="import torch; gc.disable()"),
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
    imported = set(import_afresh("torchbase")["modules"]) & set(LEFT_ALONE)
    found = ", ".join(sorted(imported)) or "none"
    return [f"of {', '.join(LEFT_ALONE)} imported", found, NOTHING, NOTHING, "none", "NO" if imported else "yes"]


def clock(module: str, before: str = "") -> Sample:
    """Takes the time of an import.

    Args:
        module: The name of the module.
        before: What is done before the clock starts.
    """
    return Sample(import_afresh(module, before)["seconds"])


def import_afresh(module: str, before: str = "") -> dict[str, Any]:
    """Imports a module in a new process.

    Args:
        module: The name of the module.
        before: What is done before.

    Returns:
        The seconds it took, and the names of all modules that were there afterwards.
    """
    program = [sys.executable, "-c", PROGRAM.format(module=module, before=before)]
    # Torch comes with its bytecode; torchbase has to be let keep its own. The first turn, which doesn't count, does it.
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(program, check=True, capture_output=True, text=True, env=surroundings)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
