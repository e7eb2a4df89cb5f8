"""The program of a run, and its start in a replay."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchbase.checkpoints.listing import iterations_of, list_checkpoints
from torchbase.errors import RunDirectoryError
from torchbase.files.durable import os_errors_explained, read_json
from torchbase.run_directory.config_snapshot import snapshots
from torchbase.run_directory.fingerprints import Place, StateHashes, read_fingerprints
from torchbase.run_directory.names import STATES_FOLDER
from torchbase.run_directory.replays import ORDERS_VARIABLE, TRACE_FILE, ReplayOrders, write_orders
from torchbase.run_directory.traces import Step, read_trace

LINES_SHOWN = 15
Start = Callable[[Sequence[str], Path, Mapping[str, str]], "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Program:
    """A program.

    Attributes:
        command: Its words.
        folder: The folder in which it is started.
    """

    command: Sequence[str]
    folder: Path

    def __str__(self) -> str:
        """Returns the words as a shell has them."""
        return shlex.join(self.command)


@dataclass(frozen=True)
class Replayed:
    """What a replay has recorded.

    Attributes:
        copy: The directory in which the session trained.
        by_program: The fingerprints that the hook of the program has recorded.
        each: Those after each iteration.
        trace: The steps of the traced iterations.
    """

    copy: Path
    by_program: Sequence[StateHashes]
    each: Sequence[StateHashes]
    trace: Sequence[Step]


def find_program(run_dir: Path) -> Program:
    """Finds the program with which a run was started or last resumed.

    Args:
        run_dir: The run directory.

    Raises:
        RunDirectoryError: If the run doesn't name it, or its folder isn't there.
    """
    environments = snapshots(run_dir, "environment")
    saved = read_json(environments[-1]).get("program") if environments else None
    how = f"To fix, pass it: torchbase replay {run_dir} --program 'python PROGRAM'"
    if not saved or not saved.get("command"):
        raise RunDirectoryError(f"{run_dir} doesn't name the program that trained it. {how}")
    folder = Path(saved["folder"])
    if not folder.is_dir():
        raise RunDirectoryError(f"The folder {folder}, in which the run {run_dir} was started, isn't there. {how}")
    return Program([sys.executable, *saved["command"][1:]], folder)


def run_program(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Runs a program to its end.

    Args:
        command: Its words.
        folder: The folder in which it is started.
        environment: Its environment variables.

    Returns:
        How it ended, with what it wrote.

    Raises:
        RunDirectoryError: If it can't be started.
    """
    with os_errors_explained("start", Path(command[0])):
        return subprocess.run(command, cwd=folder, env=dict(environment), capture_output=True, text=True, check=False)


class Replays:
    """Replays a run, each time in a folder of its own."""

    def __init__(self, run_dir: Path, program: Program, start: Start, folder: Path) -> None:
        """Sets what is replayed.

        Args:
            run_dir: The run directory. Nothing is written into it.
            program: Its program.
            start: Starts the program.
            folder: A temporary folder.
        """
        self._run_dir, self._program, self._start, self._folder = run_dir, program, start, folder
        self._count = 0

    def run(self, checkpoint: Path | None, until: Place, traced: tuple[int, int] = (0, 0)) -> Replayed:
        """Replays the run once.

        Args:
            checkpoint: The checkpoint at which the replay begins; None for the start of the run.
            until: Where it ends.
            traced: The first and last iteration to trace.

        Returns:
            What was recorded.

        Raises:
            RunDirectoryError: If the program doesn't train the run until there.
        """
        self._count += 1
        parent = self._folder / str(self._count)
        copy, records = parent / self._run_dir.name, parent / "records"
        records.mkdir(parents=True)
        _copy_run(self._run_dir, copy, checkpoint)
        orders = parent / "orders.json"
        write_orders(orders, ReplayOrders(self._run_dir, copy, records, until, *traced))
        environment = {**os.environ, ORDERS_VARIABLE: str(orders)}
        ended = self._start(self._program.command, self._program.folder, environment)
        each, _ = read_fingerprints(records)
        if ended.returncode != 0 or not each or each[-1].iteration < until[0]:
            raise RunDirectoryError(self._explain_end(ended, each, until))
        trace = records / TRACE_FILE
        return Replayed(copy, read_fingerprints(copy)[0], each, read_trace(trace) if trace.exists() else [])

    def _explain_end(self, ended: "subprocess.CompletedProcess[str]", each: Sequence[StateHashes], until: Place) -> str:
        output = "\n".join(f"  {line}" for line in f"{ended.stdout}{ended.stderr}".splitlines()[-LINES_SHOWN:])
        if each:
            problem = f"ended after iteration {each[-1].iteration:,} in place of {until[0]:,}"
        else:
            problem = "created and called no session with the class and the config of the run"
        return (
            f"The program '{self._program}', started in {self._program.folder} to replay {self._run_dir}, {problem} "
            f"(exit status {ended.returncode}). To fix, pass the program that trained the run: torchbase replay "
            f"{self._run_dir} --program 'python PROGRAM'. The end of its output:\n{output or '  nothing'}"
        )


def oldest_checkpoint(run_dir: Path, before: int) -> Path | None:
    """Returns the oldest checkpoint of a run, if it is before an iteration.

    Args:
        run_dir: The run directory.
        before: The iteration.
    """
    found = [path for path in list_checkpoints(run_dir / STATES_FOLDER) if iterations_of(path) < before]
    return found[-1] if found else None


def _copy_run(run_dir: Path, copy: Path, checkpoint: Path | None) -> None:
    states = copy / STATES_FOLDER
    with os_errors_explained("copy to", copy):
        states.mkdir(parents=True)
        for file in (*run_dir.glob("*.json"), *(run_dir / STATES_FOLDER).glob("*.json")):
            shutil.copy2(file, copy / file.relative_to(run_dir))
        if checkpoint is not None:
            shutil.copytree(checkpoint, states / checkpoint.name)
        elif (run_dir / "source.json").exists():  # the run starts with the network of another run
            source = run_dir.parent / read_json(run_dir / "source.json")["run"]
            shutil.copytree(source, copy.parent / source.name)
