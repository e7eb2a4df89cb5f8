"""Kills what torchrun restarts, and compares how the runs end with an uninterrupted run.

``python tests/kill/restarting.py --kills 10`` does so for each scenario; ``nox -s kill`` calls it. The agents are those
of torchrun, with their restarts and rendezvous. They are forked from this process, and fork their workers, so nothing
is imported twice. Nobody starts anything but the agents: the workers begin or resume a run by its name.
"""

import argparse
import importlib
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# torch 2.13: without it, a node that joins later waits for an address that the first node has sent once, in vain.
os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from kill.killing import (
    IMPORTED_LATE,
    MOST_PROCESSES,
    PLACE_OF_JOINED,
    check,
    exit_code_of,
    fork,
    fork_and_call,
    has_ended,
    live,
    result_of,
)
from kill.scenarios import NAME, TECHNIQUES, Scenario, ValidatedWithinSession
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from torchbase import hookimpl
from torchbase.files.bitwise import different_values
from torchbase.run_directory import error_files
from torchbase.run_directory.directory import RunDirectory
from torchbase.testing.forked import serving_store

SCENARIO = Scenario((0,), ValidatedWithinSession, TECHNIQUES, parts=4, mini_batch_size=8, is_named=True)
# Places in the shared memory, after those of killing.py: iterations done, how many processes train, how many have to
# train before the run goes on (0 for any), and their numbers.
ITERATIONS, COUNT, WANTED, PROCESSES = (PLACE_OF_JOINED + MOST_PROCESSES + 4 * place for place in range(4))
NOBODY = -1
ITERATIONS_OF_RUN = 15
SECONDS_AT_MOST = 300  # of a run, which then hangs
RESTARTS_AT_MOST = 100  # more than any run needs


class NoteProgress:
    """A hook that shares with the process that kills which processes train, and how far they are."""

    def __init__(self, shared):
        self._shared = shared

    @hookimpl
    def on_run_start(self, run):
        struct.pack_into("i", self._shared, PROCESSES + 4 * run.processes.index, os.getpid())
        if run.processes.is_main:
            struct.pack_into("ii", self._shared, ITERATIONS, run.progress.iterations, run.processes.count)

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.is_training and run.processes.is_main:
            struct.pack_into("i", self._shared, ITERATIONS, run.progress.iterations)
            time.sleep(0.02)  # so that a kill comes before the end
            while read(self._shared, WANTED) not in (0, run.processes.count) and run.stop_reason is None:
                time.sleep(0.005)


class WatchedScenario(Scenario):
    """The same runs, with that hook."""

    shared = None

    def session(self, *arguments):
        session = super().session(*arguments)
        session.register(NoteProgress(self.shared))
        return session


def work(scenario, parent, shared):
    """The whole life of a worker."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):  # a worker of torchrun has no handlers of the agent
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    struct.pack_into("i", shared, PROCESSES + 4 * int(os.environ["RANK"]), os.getpid())
    live(scenario, parent, 0, NAME, shared)
    # The agent waits forever for a worker that is killed after its work, when it waits for the agent itself.
    struct.pack_into("i", shared, PROCESSES + 4 * int(os.environ["RANK"]), 0)


def start_agent(scenario, parent, shared, port, processes, nodes):
    """Starts an agent in its own process group, which trains on so many processes, and returns its process."""
    config = LaunchConfig(
        *nodes,
        processes,
        run_id="kill",
        rdzv_backend="c10d",
        rdzv_endpoint=f"127.0.0.1:{port}",
        local_addr="127.0.0.1",
        # A node that was killed is missed after eight seconds, since a loaded machine may be late.
        rdzv_configs={"last_call_timeout": 1, "keep_alive_interval": 1, "keep_alive_max_attempt": 8, "is_host": "0"},
        max_restarts=RESTARTS_AT_MOST,
        monitor_interval=0.05,
        start_method="fork",
    )

    def launch():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        elastic_launch(config, work)(scenario, parent, shared)

    return fork_and_call(parent, launch)


def wait_until(condition, agents):
    """Waits for a condition, or until an agent has ended."""
    deadline = time.monotonic() + SECONDS_AT_MOST
    while not condition() and not any(map(has_ended, agents)):
        if time.monotonic() > deadline:
            raise SystemExit(f"a run hangs after {SECONDS_AT_MOST} seconds")
        time.sleep(0.002)


def wait_for(seconds, agents):
    instant = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > instant, agents)


def read(shared, place):
    return struct.unpack_from("i", shared, place)[0]


def workers(shared):
    return [one for one in struct.unpack_from(f"{MOST_PROCESSES}i", shared, PROCESSES) if one]


def kill_workers(scenario, parent, shared, port, draw, kills):
    """Kills a worker at random instants, whatever the workers do then. The agent restarts them."""
    agent = start_agent(scenario, parent, shared, port, processes=2, nodes=(1, 1))
    killed = 0
    while killed < kills:
        wait_until(lambda: len(workers(shared)) == 2, [agent])
        wait_for(draw.uniform(0, 1.5), [agent])
        if has_ended(agent):
            break
        if len(living := workers(shared)) < 2:  # one has ended
            continue
        victim, shared[PROCESSES : PROCESSES + 8] = draw.choice(living), bytes(8)
        with suppress(ProcessLookupError):  # of an earlier round, which the agent has ended meanwhile
            os.kill(victim, signal.SIGKILL)
            killed += 1
    wait_until(lambda: False, [agent])
    check(exit_code_of(agent), parent)
    return killed


def lose_nodes(scenario, parent, shared, port, draw, kills):
    """Kills one of two nodes at random instants, lets the other train alone, and starts another one."""
    first = start_agent(scenario, parent, shared, port, processes=1, nodes=(1, 2))
    second, killed = start_agent(scenario, parent, shared, port, processes=1, nodes=(1, 2)), 0
    while killed < kills:
        wait_until(lambda: read(shared, COUNT) == 2, [first])
        struct.pack_into("i", shared, WANTED, 0)
        wait_for(draw.uniform(0, 0.4), [first])
        # The run stops here, since an agent waits for minutes for another one that is killed after the end of the run.
        struct.pack_into("i", shared, WANTED, NOBODY)
        if has_ended(first) or read(shared, ITERATIONS) >= ITERATIONS_OF_RUN:
            struct.pack_into("i", shared, WANTED, 0)
            break
        wait_for(draw.uniform(0, 0.05), [first])
        struct.pack_into("ii", shared, COUNT, 0, 0)
        os.killpg(second, signal.SIGKILL)
        exit_code_of(second)
        killed += 1
        wait_until(lambda: read(shared, COUNT) == 1, [first])
        done, more = read(shared, ITERATIONS), draw.randrange(4)
        wait_until(lambda last=done + more: read(shared, ITERATIONS) >= last, [first])
        struct.pack_into("i", shared, WANTED, 2)
        second = start_agent(scenario, parent, shared, port, processes=1, nodes=(1, 2))
    wait_until(lambda: False, [first])
    check(exit_code_of(first), parent)
    os.killpg(second, signal.SIGKILL)  # if it came too late to join
    exit_code_of(second)
    return killed


SCENARIOS = {"restarted workers": kill_workers, "two nodes, one and two": lose_nodes}


def run_repeatedly(lose, kills, seed, folder, shared):
    """Runs until the number of kills is reached, and returns the number of runs and each difference."""
    draw = random.Random(seed)
    scenario = WatchedScenario(**vars(SCENARIO))
    WatchedScenario.shared = shared
    whole = folder / "whole"
    whole.mkdir()
    check(exit_code_of(fork(SCENARIO, whole, 0, shared)), whole)
    expected, differences, runs, killed = result_of(whole), [], 0, 0
    while killed < kills:
        runs += 1
        parent = folder / f"run-{runs}"
        parent.mkdir()
        shared[:] = bytes(len(shared))
        with serving_store() as port:
            killed += lose(scenario, parent, shared, port, draw, kills - killed)
        RunDirectory.open(parent, NAME).lock()  # no worker is left that holds it
        differences += [f"run {runs}: {one}" for one in different_values(expected, result_of(parent))]
    return runs, differences


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="kills of each scenario")
    parser.add_argument("--seed", type=int, default=None, help="seed of the instants; drawn at random by default")
    parser.add_argument("scenarios", nargs="*", help=f"of: {', '.join(SCENARIOS)}; all by default")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**32)
    torch.set_num_threads(1)
    error_files.SECONDS_TO_LOOK = 0.1  # on one disk; a worker that was killed has recorded nothing
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    shared = mmap.mmap(-1, PROCESSES + 4 * MOST_PROCESSES)
    failed = False
    for name in arguments.scenarios or SCENARIOS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="torchbase-restart-") as folder:
            runs, differences = run_repeatedly(SCENARIOS[name], arguments.kills, f"{seed} {name}", Path(folder), shared)
        print(
            f"{name}: {arguments.kills} kills of {runs} runs, seed {seed}, {time.monotonic() - started:.0f} s: "
            f"{'all bit-identical' if not differences else f'{len(differences)} DIFFERENCES'}",
            flush=True,
        )
        for one in differences:
            print(f"  {one}")
        failed = failed or bool(differences)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
