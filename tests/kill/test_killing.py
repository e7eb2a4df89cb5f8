"""A short form of ``nox -s kill``, which kills each kind of run sixty times."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kill.scenarios import SCENARIOS

KILLS = 3
# Several in a process, since its imports take as long as the kills of a scenario.
TOGETHER = 3
GROUPS = [list(SCENARIOS)[first : first + TOGETHER] for first in range(0, len(SCENARIOS), TOGETHER)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("scenarios", GROUPS, ids="; ".join)
def test_repeatedly_killed_runs_end_like_uninterrupted_runs(scenarios):
    command = [sys.executable, str(Path(__file__).with_name("killing.py")), "--kills", str(KILLS), *scenarios]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for scenario, line in zip(scenarios, done.stdout.strip().splitlines(), strict=True):
        assert re.match(rf"{re.escape(scenario)}: {KILLS} kills of \d+ runs \(.*: all bit-identical$", line)
