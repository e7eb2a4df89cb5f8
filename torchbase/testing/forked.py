"""Calls a function in several forked processes, which torchbase takes for those of a launcher."""

import gc
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

ADDRESS = "127.0.0.1"


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        value: What its function returned.
        error: The error of its function as text, or that it took too long; None without an error.
        exit_code: Its exit code; negative if a signal killed it.
    """

    value: Any
    error: str | None
    exit_code: int | None


@dataclass(frozen=True)
class ForkedProcess:
    """A process that calls a function.

    Attributes:
        process: The process.
        answer: Where its result can be read.
    """

    process: BaseProcess
    answer: Connection


def reason_against_forking() -> str | None:
    """Returns why processes that train together can't be forked here; None if they can."""
    if "fork" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        return f"a process that uses torch can't be forked on {sys.platform}"
    if not dist.is_available() or not dist.is_gloo_available():
        return "this build of torch lacks torch.distributed with gloo"
    return None


@contextmanager
def forked(count: int, function: Callable[[int], Any]) -> Iterator[list[ForkedProcess]]:
    """Forks processes that call a function, with the environment variables of a launcher, and ends them.

    A single process needs no launcher, and gets no such variables. Each process computes with one thread, since the
    threads of this process don't exist in it.

    Args:
        count: The number of processes.
        function: Takes the index of the process. Its result has to be picklable.

    Yields:
        The processes by index; `wait_for` returns their results.
    """
    processes: list[ForkedProcess] = []
    with socket.create_server((ADDRESS, 0)) as listener:
        port = listener.getsockname()[1]
        try:
            for index in range(count):
                variables = _variables(index, count, port) if count > 1 else {}
                processes.append(_fork(_call, function, index, variables, may_have_children=True))
            with _store(listener) if count > 1 else nullcontext():
                try:
                    yield processes
                finally:
                    for one in processes:  # before the store, whose end would be an error in them
                        one.process.kill()
        finally:
            for one in processes:
                _end(one)


def wait_for(processes: Sequence[ForkedProcess], seconds: float) -> list[Ended]:
    """Waits until processes have ended, and kills those that take too long.

    Args:
        processes: What `forked` yields.
        seconds: How long they may take.

    Returns:
        How each ended, by index.
    """
    deadline = time.monotonic() + seconds
    waiting: dict[Any, int] = {one.answer: index for index, one in enumerate(processes)}
    late = (None, f"it had not ended after {seconds:.0f} seconds")
    answers: dict[int, tuple[Any, str | None]] = dict.fromkeys(waiting.values(), late)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for receiver in wait(list(waiting), left):
            index = waiting.pop(receiver)
            answers[index] = _read(processes[index].answer)
    for one in processes:
        one.process.join(max(0.0, deadline - time.monotonic()))
        if one.process.is_alive():
            one.process.kill()
            one.process.join()
    return [Ended(*answers[index], one.process.exitcode) for index, one in enumerate(processes)]


@contextmanager
def serving_store() -> Iterator[int]:
    """Serves the store in which processes find each other, as the agent of a launcher does.

    It has a process of its own: its server is a thread, and a lock that it holds would stay locked in forked processes.

    Yields:
        The port.
    """
    server = _fork(_serve_store)
    try:
        yield server.answer.recv()
    finally:
        _end(server)


@contextmanager
def _store(listener: socket.socket) -> Iterator[None]:
    """Serves the store in this process, which must not fork meanwhile, but takes less time than another process."""
    server = dist.TCPStore(  # type: ignore[attr-defined]
        ADDRESS,
        listener.getsockname()[1],
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=os.dup(listener.fileno()),
    )
    try:
        yield
    finally:
        del server  # ends its thread


def _serve_store(sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    any_port = 0
    store = dist.TCPStore(ADDRESS, any_port, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    sender.send(store.port)
    signal.pause()


def _call(sender: Connection, function: Callable[[int], Any], index: int, variables: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    gc.freeze()  # otherwise the first collections visit, and so copy, the memory that is shared with the other process
    os.environ.update(variables)
    try:
        answer = pickle.dumps((function(index), None))
    except BaseException:  # whatever ends the function, it is the answer
        answer = pickle.dumps((None, traceback.format_exc()))
    sender.send_bytes(answer)  # not send(): torch would share the memory of tensors
    sender.close()


def _variables(index: int, count: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(index),
        "LOCAL_RANK": str(index),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": ADDRESS,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def _fork(function: Callable[..., None], *arguments: object, may_have_children: bool = False) -> ForkedProcess:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(sender, *arguments), daemon=not may_have_children)
    with warnings.catch_warnings():
        # Python warns of threads, which may hold locks. Those of torch don't, and nothing waits without a time limit.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sender.close()  # so that the end of the process is the end of the pipe
    return ForkedProcess(process, receiver)


def _read(receiver: Connection) -> tuple[Any, str | None]:
    try:
        value, error = pickle.loads(receiver.recv_bytes())
    except EOFError:  # it was killed
        return None, None
    return value, error


def _end(one: ForkedProcess) -> None:
    one.process.kill()
    one.process.join()
    one.answer.close()
