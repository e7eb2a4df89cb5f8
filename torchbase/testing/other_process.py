"""Calls a function in a new process, which can be killed."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

CALL = "from torchbase.testing.other_process import main; main()"
CANNOT_LOAD = 3


@dataclass(frozen=True)
class ProcessResult:
    """How a process ended.

    Attributes:
        was_killed: Whether a signal ended it that can't be caught.
        could_start: Whether the function could be sent to it.
        message: Why it could not start, or its error stream.
    """

    was_killed: bool
    could_start: bool
    message: str


def call_in_process(function: Callable[[], object]) -> ProcessResult:
    """Calls a function in a process with the same import path as this process, and waits for its end.

    Args:
        function: The function, which takes no arguments. It is sent by pickle, so it and the arguments of a
            ``functools.partial`` have to be importable.

    Returns:
        How the process ended.
    """
    try:
        pickled = pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # each of them may be due to a local name
        return ProcessResult(False, False, str(error))
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(torch.get_num_threads())],
        input=pickled,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    errors = done.stderr.decode(errors="replace").strip()
    could_start = done.returncode != CANNOT_LOAD
    message = errors if could_start else errors.splitlines()[-1]
    return ProcessResult(done.returncode == _status_of_a_kill(), could_start, message)


def kill_this_process() -> None:
    """Ends this process at once, by a signal that can't be caught."""
    os.kill(os.getpid(), _signal_of_a_kill())


def main() -> None:
    """Calls the function that is read from the standard input, with the number of threads in the first argument."""
    try:
        function = pickle.loads(sys.stdin.buffer.read())
    except (ImportError, AttributeError) as error:
        sys.stderr.write(f"\n{error}\n")
        sys.exit(CANNOT_LOAD)
    torch.set_num_threads(int(sys.argv[1]))  # a sum's rounding may depend on it
    function()


def _signal_of_a_kill() -> int:
    return getattr(signal, "SIGKILL", signal.SIGTERM)  # which can't be caught on Windows either


def _status_of_a_kill() -> int:
    number = _signal_of_a_kill()
    return number if os.name == "nt" else -number
