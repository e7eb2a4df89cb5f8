"""Calls a function in a fresh process, so that it can be killed there."""

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
class Ended:
    """How the process ended.

    Attributes:
        was_killed: Whether a signal ended it that nothing can catch.
        could_begin: Whether the function could be sent there.
        said: Why it could not, or what was written to the error stream.
    """

    was_killed: bool
    could_begin: bool
    said: str


def call_in_a_process(function: Callable[[], object]) -> Ended:
    """Calls a function in a process that imports from where this one does, and waits for its end.

    Args:
        function: What to call, without arguments; it is sent by pickle, so it has to be importable, as well as what it
            is given by ``functools.partial``.

    Returns:
        How the process ended.
    """
    try:
        sent = pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # each of them may come of a local name
        return Ended(False, False, str(error))
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(torch.get_num_threads())],
        input=sent,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    said = done.stderr.decode(errors="replace").strip()
    could_begin = done.returncode != CANNOT_LOAD
    return Ended(done.returncode == _status_of_a_kill(), could_begin, said if could_begin else said.splitlines()[-1])


def kill_this_process() -> None:
    """Ends this process at once, by a signal that nothing can catch."""
    os.kill(os.getpid(), _signal_of_a_kill())


def main() -> None:
    """Calls what is read from the standard input, with as many threads as the first argument says."""
    try:
        function = pickle.loads(sys.stdin.buffer.read())
    except (ImportError, AttributeError) as error:
        sys.stderr.write(f"\n{error}\n")
        sys.exit(CANNOT_LOAD)
    torch.set_num_threads(int(sys.argv[1]))  # of which a sum's rounding may depend
    function()


def _signal_of_a_kill() -> int:
    return getattr(signal, "SIGKILL", signal.SIGTERM)  # which on Windows can't be caught either


def _status_of_a_kill() -> int:
    number = _signal_of_a_kill()
    return number if os.name == "nt" else -number
