"""Work that succeeds on all processes, or fails on all of them."""

from collections.abc import Callable
from typing import TypeVar

from torchbase.distributed.processes import Processes
from torchbase.errors import CheckpointError, NonFiniteError, ProcessError, RunDirectoryError

Result = TypeVar("Result")

_KINDS = (CheckpointError, RunDirectoryError, NonFiniteError)  # the first that fits is raised on the other processes


def do_together(processes: Processes, function: Callable[[], Result], purpose: str) -> list[Result]:
    """Calls a function on each process. If it fails on one of them, each raises an error.

    Args:
        processes: The processes. All of them call this function.
        function: What this process does. Its result can be pickled. It doesn't communicate.
        purpose: What it is for, for the error if another process is elsewhere.

    Returns:
        The results of all processes, by index.

    Raises:
        Exception: The error of the function, on its process. On the others, the error of the first process that failed:
            of the same class if it is one of the disk or of a value that isn't finite, else a `ProcessError`.
        ProcessError: If another process has ended or doesn't answer.
    """
    results: list[Result] = []
    failure: Exception | None = None
    try:
        results.append(function())
    except Exception as error:  # raised below, when the others know of it
        failure = error
    answers = processes.gather((results, _described(failure)), purpose)
    if failure is not None:
        raise failure
    for index, (_, description) in enumerate(answers):
        if description is not None:
            raise _error_of(index, *description)
    return [of_process[0] for of_process, _ in answers]


def _described(error: Exception | None) -> tuple[int | None, str, int | None] | None:
    if error is None:
        return None
    kind = next((number for number, kind in enumerate(_KINDS) if isinstance(error, kind)), None)
    text = str(error) if kind is not None else f"{type(error).__name__}: {error}"
    return kind, text, error.errno if isinstance(error, OSError) else None


def _error_of(index: int, kind: int | None, text: str, errno: int | None) -> Exception:
    made = (ProcessError if kind is None else _KINDS[kind])(f"process {index}: {text}")
    if isinstance(made, OSError):
        made.errno = errno
    return made
