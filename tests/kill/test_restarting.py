"""A short form of ``nox -s kill`` for what torchrun restarts."""

import re
import sys
from pathlib import Path

import pytest

SCENARIOS = ["restarted workers", "two nodes, one and two"]


@pytest.mark.skipif(sys.platform != "linux", reason="the agents and their workers are forked")
def test_what_torchrun_restarts_ends_like_an_uninterrupted_run(programs):
    done = programs.run(Path(__file__).with_name("restarting.py"), "--kills", 1, *SCENARIOS)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, line in zip(SCENARIOS, done.stdout.splitlines(), strict=True):
        assert re.match(rf"{name}: 1 kills of \d+ runs, .*: all bit-identical$", line)
