"""A short form of ``nox -s kill``, which kills each kind of run sixty times."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kill.scenarios import SCENARIOS

KILLS = 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_repeatedly_killed_run_ends_like_an_uninterrupted_run(scenario):
    command = [sys.executable, str(Path(__file__).with_name("killing.py")), "--kills", str(KILLS), scenario]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(rf"{re.escape(scenario)}: {KILLS} kills of \d+ runs \(.*: all bit-identical$", done.stdout.strip())
