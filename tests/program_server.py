"""The process from which `programs.Programs` forks programs: ``python program_server.py SOCKET``.

A request is one byte and four open files: the request as JSON, and the three standard streams. The answers are two
lines: the number of the process, and its exit code once it has ended.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import types
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

# What most programs import, and nothing that starts a thread.
MODULES = (
    "numpy",
    "datasets",
    "sklearn.datasets",
    "sklearn.metrics",
    "tensorboard.backend.event_processing.event_accumulator",
    "tensorboard.summary.writer.record_writer",
    "torch._dynamo",
    "torch.utils.tensorboard.summary",
    "torchbase.checkpoints.manifest",
    "torchbase.command_line",
    "torchbase.hooks",
    "torchbase.run_directory.config",
    "torchbase.testing",
)
SECONDS_AT_MOST = 600  # far more than any program needs


def main():
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the memory of these modules stays shared with the programs
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of the tests closes the socket
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        files = serve(connection)
    if files:
        run_program(*files)


def serve(connection):
    """Forks a process for each request. Returns the files of its request in such a process, and nothing in this one."""
    while True:
        request, files, _, _ = socket.recv_fds(connection, 1, 4)
        if not request:
            return []
        with warnings.catch_warnings(action="ignore"):  # that pyarrow has a thread, which forks do not disturb
            process = os.fork()
        if process == 0:
            return files
        for file in files:
            os.close(file)
        connection.sendall(f"{process}\n".encode())
        connection.sendall(f"{exit_code_of(process)}\n".encode())


def exit_code_of(process):
    """Waits for the end of a process, and kills it if it hangs."""
    signal.signal(signal.SIGALRM, lambda number, frame: os.kill(process, signal.SIGKILL))
    signal.alarm(SECONDS_AT_MOST)
    _, status = os.waitpid(process, 0)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return os.waitstatus_to_exitcode(status)


def run_program(request_file, *streams):
    """Turns this process into that of a program and runs it. The interpreter then ends as it does after any program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(request_file) as file:
        file.seek(0)
        request = json.load(file)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.excepthook = show_error
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.modules["numpy"].random.seed()  # random does so by itself
    words = request["words"]
    while words[0] == "-W":
        warnings.simplefilter(words[1])
        words = words[2:]
    run_main_module(words)


def run_main_module(words):
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    if words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        code = compile(words[1], "<string>", "exec")
    else:
        file = os.path.abspath(words[0])
        sys.argv, sys.path[0] = words, os.path.dirname(file)
        module.__file__ = file
        code = compile(Path(file).read_bytes(), file, "exec")
    exec(code, module.__dict__)


def show_error(kind, error, traceback):
    """Shows an error as the interpreter does, without the calls in this file."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    sys.__excepthook__(kind, error.with_traceback(traceback), traceback)


if __name__ == "__main__":
    main()
