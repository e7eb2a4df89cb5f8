"""A short form of ``nox -s kill``, which kills each kind of run sixty times."""

import os
import re
from pathlib import Path

import pytest
from kill.scenarios import SCENARIOS

KILLS = 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_repeatedly_killed_run_ends_like_an_uninterrupted_run(programs, scenario):
    done = programs.run(Path(__file__).with_name("killing.py"), "--kills", KILLS, scenario)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    assert re.match(rf"{re.escape(scenario)}: {KILLS} kills of \d+ runs \(.*: all bit-identical$", line)
