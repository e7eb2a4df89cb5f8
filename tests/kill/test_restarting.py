"""A short form of ``nox -s kill`` for what torchrun restarts."""

import re
import sys
from pathlib import Path

import pytest

KILLS = {"restarted workers": 2, "two nodes, one and two": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="the agents and their workers are forked")
@pytest.mark.parametrize("scenario", KILLS)
def test_what_torchrun_restarts_ends_like_an_uninterrupted_run(programs, scenario):
    done = programs.run(Path(__file__).with_name("restarting.py"), "--kills", KILLS[scenario], scenario)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(rf"{scenario}: {KILLS[scenario]} kills of \d+ runs, .*: all bit-identical$", done.stdout)
