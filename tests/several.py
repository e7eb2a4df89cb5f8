"""Runs a function in several forked processes that torchbase takes for those of a launcher."""

import multiprocessing
import os
import pickle
import signal
import time
import traceback
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, NamedTuple

import torch
from torch.distributed import TCPStore

SECONDS = 120


class Ended(NamedTuple):
    """How a process ended: what its function returned, or its error as text, and its exit code."""

    value: Any
    error: str | None
    exit_code: int | None


def run(count, function, *arguments, killed=None, seconds=SECONDS):
    """Calls ``function(index, *arguments)`` in processes 0 to ``count`` - 1, and returns how each ended.

    ``killed(processes)`` is called once, to kill some of them. Those that still run after ``seconds`` are killed.
    """
    with serving_store() as port:
        return _run(count, port, function, arguments, killed, seconds)


def _run(count, port, function, arguments, killed, seconds):
    context = multiprocessing.get_context("fork")
    started = []
    for index in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_call, args=(sender, index, count, port, function, arguments))
        process.start()
        sender.close()
        started.append((process, receiver))
    if killed is not None:
        killed([process for process, _ in started])
    deadline, results = time.monotonic() + seconds, {}
    waiting = {receiver: index for index, (_, receiver) in enumerate(started)}
    while waiting and (left := deadline - time.monotonic()) > 0:
        for receiver in wait(list(waiting), left):
            index = waiting.pop(receiver)
            try:
                results[index] = pickle.loads(receiver.recv_bytes())
            except EOFError:  # it was killed
                results[index] = (None, None)
    for process, _ in started:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return [Ended(*results.get(index, (None, "no answer")), started[index][0].exitcode) for index in range(count)]


@contextmanager
def serving_store():
    """Serves the store in which processes find each other, and yields its port, as the agent of torchrun does."""
    # In a process of its own: its server is a thread, and a lock that it holds would stay locked in forked processes.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    server = context.Process(target=_serve_store, args=(sender,), daemon=True)
    server.start()
    try:
        yield receiver.recv()
    finally:
        server.kill()
        server.join()


def _serve_store(sender):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # it chooses a port that is free
    sender.send(store.port)
    signal.pause()


def values_of(count, function, *arguments, **settings):
    """As `run`, but returns what the functions returned, and raises the first error."""
    ended = run(count, function, *arguments, **settings)
    for index, one in enumerate(ended):
        if one.error is not None or one.exit_code != 0:
            raise AssertionError(f"process {index} of {count} (exit code {one.exit_code}): {one.error}")
    return [one.value for one in ended]


def _call(sender, index, count, port, function, arguments):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(index),
        LOCAL_RANK=str(index),
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_USE_AGENT_STORE="True",
    )
    try:
        answer = (function(index, *arguments), None)
    except BaseException:
        answer = (None, traceback.format_exc())
    sender.send_bytes(pickle.dumps(answer))  # not send(): torch would share the memory of tensors
    sender.close()
