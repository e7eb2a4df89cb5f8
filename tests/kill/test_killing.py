"""A short form of ``nox -s kill``, which kills more kinds of runs, and each sixty times."""

import os
import re
from pathlib import Path

import pytest
import several

ON_ONE_PROCESS = [
    "no workers",
    "0, then 2, then 1 workers",
    "a hook that draws",
    "a stream",
    "a loader of torch, 2 workers",
    "a momentum encoder",
    "a teacher that is unfrozen",
    "a lazy network",
    "parameter groups",
    "several optimizers",
    "a closure",
    "mini-batches in parts",  # with training techniques and validation within epochs
    "a run by its name",
]
ON_SEVERAL = [
    "several processes, by name",
    *(["a sharded network"] if several.reason_against_sharding() is None else []),
]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize(("scenarios", "kills"), [(ON_ONE_PROCESS, 1), (ON_SEVERAL, 2)], ids=["one", "several"])
def test_a_repeatedly_killed_run_ends_like_an_uninterrupted_run(programs, scenarios, kills):
    done = programs.run(Path(__file__).with_name("killing.py"), "--kills", kills, *scenarios)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, line in zip(scenarios, done.stdout.splitlines(), strict=True):
        assert re.match(rf"{re.escape(name)}: {kills} kills of \d+ runs \(.*: all bit-identical$", line)
