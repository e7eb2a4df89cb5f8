"""Kills runs with SIGKILL at random instants, resumes them until they end, and compares them with an uninterrupted run.

``python tests/kill/killing.py --kills 60`` does so for every scenario; ``nox -s kill`` calls it. Each life of a run
is a process that is forked from this one, so the instants fall on the run and not on imports. A life of several
processes has a launcher, which is forked from this one and forks them. Either one of them is killed, and the others
have to end on their own, or all are killed at once. Until all have joined, they can't notice that one is gone: the
launcher ends them, as torchrun does.
"""

import argparse
import contextlib
import importlib
import mmap
import os
import random
import re
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from kill.scenarios import SCENARIOS
from tiny import read_scalars

from torchbase import hookimpl
from torchbase.distributed.shards import whole_of
from torchbase.files.bitwise import different_values
from torchbase.files.nested import map_leaves
from torchbase.run_directory.record import read_status
from torchbase.testing.forked import serving_store

# Imported once before the forks. Otherwise these imports would take most of a life, and a kill would hit no file.
IMPORTED_LATE = (
    "tensorboard.backend.event_processing.event_accumulator",
    "tensorboard.summary.writer.record_writer",
    "torch._dynamo",
    "torch.distributed.elastic.multiprocessing.errors",
    "torch.distributed.fsdp",
    "torch.utils.tensorboard.summary",
    "torchbase.checkpoints.manifest",
    "torchbase.distributed.process_group",
    "torchbase.run_directory.config",
)

SECONDS_TO_END = 30  # of the other processes, after one was killed
HANGS = 3  # the exit code of a launcher whose processes don't end
MOST_PROCESSES = 8
PLACE_OF_PROCESSES = 8  # in the shared memory, after the stage
PLACE_OF_JOINED = PLACE_OF_PROCESSES + 4 * MOST_PROCESSES  # a byte each: whether the process has joined the others
STAGES = ("start-up", "training", "validation", "between phases", "end")


class NoteStage:
    """A hook that shares the current stage of the run with the process that kills it."""

    def __init__(self, shared):
        self._shared = shared

    def _note(self, stage):
        self._shared[0] = STAGES.index(stage)

    @hookimpl
    def on_phase_start(self, phase):
        self._note("training" if phase.is_training else "validation")

    @hookimpl
    def on_phase_end(self):
        self._note("between phases")

    @hookimpl(tryfirst=True)
    def on_run_end(self):
        self._note("end")


def live(scenario, parent, life, tag, shared):
    """The whole life of one process: starts or resumes the run, and saves the result if it gets that far."""
    session = scenario.session(parent, life, tag)
    shared[PLACE_OF_JOINED + session.processes.index] = True
    session.register(NoteStage(shared))
    summary = session()
    # Of a sharded network, each process has some rows.
    network, optimizer = (map_leaves(one.state_dict(), whole) for one in (session.network, session.optimizer))
    if not session.processes.is_main:
        return
    run_dir = Path(summary.run_dir)
    result = {
        "network": network,
        "optimizer": optimizer,
        "best network": torch.load(run_dir / "network.pth", weights_only=True),
        "averages": {phase: dict(values) for phase, values in summary.averages.items()},
        "best losses": {phase: (best.loss, best.epoch) for phase, best in summary.best_losses.items()},
        "votes": (run_dir / "votes.jsonl").read_text(),
        "epochs": (run_dir / "epochs.jsonl").read_text(),
        "status": status_of(run_dir),
        "scalars": {tag: list(curve) for tag, curve in read_scalars(run_dir).items()},
    }
    torch.save(result, parent / "result.pth.tmp")
    os.replace(parent / "result.pth.tmp", parent / "result.pth")


def whole(_, value):
    return whole_of(value) if isinstance(value, torch.Tensor) else value


def status_of(run_dir):
    """The status of a run, except times and processes."""
    status = vars(read_status(run_dir))
    losses = {phase: (best.loss, best.epoch) for phase, best in status["best_losses"].items()}
    return [status["state"], status["epochs_done"], status["iterations"], losses]


def fork(scenario, parent, life, shared):
    """Starts a life in its own process group, and returns its process, or that of its launcher."""
    shared[:] = bytes(len(shared))
    count = scenario.processes[life % len(scenario.processes)]
    tags = sorted(path.name for path in parent.iterdir() if path.is_dir())
    tag = tags[-1] if tags else None
    if count == 1:
        return fork_and_call(parent, lambda: live(scenario, parent, life, tag, shared))
    return fork_and_call(parent, lambda: launch(count, scenario, parent, life, tag, shared))


def fork_and_call(parent, function, is_leader=True):
    process = os.fork()
    if process:
        if is_leader:  # here, too: a kill may come before the child has done it
            with contextlib.suppress(PermissionError, ProcessLookupError):  # the child has ended
                os.setpgid(process, process)
        return process
    status = 1
    try:
        if is_leader:
            os.setpgid(0, 0)
        with (parent / "log.txt").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            status = function() or 0
    except BaseException:
        (parent / "error.txt").write_text(traceback.format_exc())
    finally:
        os._exit(status)


def launch(count, scenario, parent, life, tag, shared):
    """Starts the processes of a life, as torchrun does, and waits for them."""
    with serving_store() as port:
        os.environ.update(
            WORLD_SIZE=str(count),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            TORCHELASTIC_USE_AGENT_STORE="True",
        )
        processes = []
        for index in range(count):
            os.environ.update(RANK=str(index), LOCAL_RANK=str(index))
            processes.append(fork_and_call(parent, lambda: live(scenario, parent, life, tag, shared), is_leader=False))
            struct.pack_into("i", shared, PLACE_OF_PROCESSES + 4 * index, processes[-1])
        return wait_for_all(processes, shared)


def wait_for_all(processes, shared):
    """Waits until all processes have ended, for a limited time after the first that failed."""
    statuses, deadline = {}, None
    while len(statuses) < len(processes):
        for process in processes:
            if process not in statuses and has_ended(process):
                statuses[process] = exit_code_of(process)
        rest = set(processes) - set(statuses)
        if deadline is None and any(statuses.values()):
            deadline = time.monotonic() + SECONDS_TO_END
            if not all(shared[PLACE_OF_JOINED : PLACE_OF_JOINED + len(processes)]):
                kill_and_wait(rest)
                return 1
        if deadline is not None and time.monotonic() > deadline:
            kill_and_wait(rest)
            return HANGS
        time.sleep(0.002)
    return int(any(statuses.values()))


def kill_and_wait(processes):
    for process in processes:
        os.kill(process, signal.SIGKILL)
    for process in processes:
        exit_code_of(process)


def kill(process, draw, shared):
    """Kills a life: its process, or one of its processes or all of them. Returns whether it was killed."""
    processes = [one for one in struct.unpack_from(f"{MOST_PROCESSES}i", shared, PLACE_OF_PROCESSES) if one]
    if processes and draw.random() < 0.5:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(draw.choice(processes), signal.SIGKILL)
        status = exit_code_of(process)
        if status == HANGS:
            raise SystemExit(f"a process was killed, and the others were still there {SECONDS_TO_END} s later")
        return status != 0
    os.killpg(process, signal.SIGKILL)
    return exit_code_of(process) == -signal.SIGKILL


def order_of(parent):
    """The content of each part of each training iteration. A repeated iteration must have the same."""
    batches = {}
    for line in (parent / "order.txt").read_text().splitlines():
        part, _, content = line.partition(" ")
        if batches.setdefault(part, content) != content:
            raise SystemExit(f"the part {part} of the order had {batches[part]}, and when repeated {content}")
    return batches


def result_of(parent):
    return {**torch.load(parent / "result.pth", weights_only=True), "order": order_of(parent)}


def exit_code_of(process):
    """Waits for a life and returns its exit code."""
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def kill_repeatedly(scenario, kills, seed, folder, shared):
    """Kills lives of runs until the number of kills is reached, and lets each run end.

    Returns:
        The number of kills by stage, the number of runs, and every difference from the uninterrupted run.
    """
    draw = random.Random(seed)
    whole = folder / "whole"
    whole.mkdir()
    started = time.monotonic()
    check(exit_code_of(fork(scenario, whole, 0, shared)), whole)
    lifetime = time.monotonic() - started
    expected = result_of(whole)
    stages, differences, runs, killed = Counter(), [], 0, 0
    while killed < kills:
        runs += 1
        parent = folder / f"run-{runs}"
        parent.mkdir()
        life = 0
        while not (parent / "result.pth").exists():
            process = fork(scenario, parent, life, shared)
            life += 1
            if killed < kills:  # after the last kill, the run continues to its end
                wait_for_the_instant(process, draw, lifetime, shared)
            if killed < kills and not has_ended(process):
                if kill(process, draw, shared):
                    killed += 1
                    stages[STAGES[shared[0]]] += 1
                    stages["(while a checkpoint was written)"] += is_half_written(parent)
            else:
                check(exit_code_of(process), parent)
        differences += [f"run {runs}: {one}" for one in different_values(expected, result_of(parent))]
    return stages, runs, differences


def wait_for_the_instant(process, draw, lifetime, shared):
    """Waits for a random instant of the lifetime, or shortly after the start of a stage, so no stage is missed."""
    is_aimed, stage = draw.random() < 0.6, draw.randrange(len(STAGES))
    while is_aimed and shared[0] != stage and not has_ended(process):
        time.sleep(0.0005)
    deadline = time.monotonic() + draw.uniform(0, lifetime / 20 if is_aimed else lifetime)
    while time.monotonic() < deadline and not has_ended(process):
        time.sleep(0.0005)


def has_ended(process):
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def is_half_written(parent):
    return any(re.fullmatch(r"\.checkpoint-.*\.tmp", path.name) for path in parent.glob("*/states/.*"))


def check(status, parent):
    if status != 0:
        reason = (parent / "error.txt").read_text() if (parent / "error.txt").exists() else f"status {status}"
        raise SystemExit(f"a life in {parent} failed without a kill: {reason}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="kills of each scenario")
    parser.add_argument("--seed", type=int, default=None, help="seed of the instants; drawn at random by default")
    parser.add_argument("scenarios", nargs="*", help=f"of: {', '.join(SCENARIOS)}; all by default")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**32)
    torch.set_num_threads(1)
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    shared = mmap.mmap(-1, PLACE_OF_JOINED + MOST_PROCESSES)
    failed = False
    for name in arguments.scenarios or SCENARIOS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="torchbase-kill-") as folder:
            stages, runs, differences = kill_repeatedly(
                SCENARIOS[name], arguments.kills, f"{seed} {name}", Path(folder), shared
            )
        hit = ", ".join(f"{stage} {stages[stage]}" for stage in (*STAGES, "(while a checkpoint was written)"))
        print(
            f"{name}: {arguments.kills} kills of {runs} runs ({hit}), seed {seed}, {time.monotonic() - started:.0f} s: "
            f"{'all bit-identical' if not differences else f'{len(differences)} DIFFERENCES'}",
            flush=True,
        )
        for one in differences:
            print(f"  {one}")
        failed = failed or bool(differences)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
