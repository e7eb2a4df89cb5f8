"""Python programs in processes of their own that start at once.

An interpreter takes five seconds to import what a run needs, and the run of a test far less. These processes are forked
from one that has imported it and done nothing else. Otherwise they begin and end like those of an interpreter: with a
``__main__``, arguments, streams and environment variables of their own, and after the functions of atexit. A test of
imports needs a new interpreter: `subprocess`.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SERVER = Path(__file__).with_name("program_server.py")


class Program:
    """A process that runs a program, with text files at the other ends of its streams."""

    def __init__(self, words, stdin, stdout, stderr, answers):
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self._words, self._answers = words, answers
        self.pid = self._answer()

    def _answer(self):
        line = self._answers.readline()
        if not line:
            raise RuntimeError("the process from which programs are forked has ended; its error is shown above")
        return int(line)

    def wait(self):
        """Waits for the end and closes the streams. Returns the exit code, which is negative after a signal."""
        code = self._answer()
        for file in (self.stdin, self.stdout, self.stderr):
            file.close()
        return code

    def communicate(self, sent=""):
        """Sends text, reads until both streams end, and returns a `subprocess.CompletedProcess`."""
        self.stdin.write(sent)
        self.stdin.close()
        with ThreadPoolExecutor(1) as threads:
            errors = threads.submit(self.stderr.read)
            output = self.stdout.read()
        return subprocess.CompletedProcess(self._words, self.wait(), output, errors.result())


class Programs:
    """Starts programs. The next one starts when the former has ended."""

    def __init__(self):
        """Starts the process from which programs are forked."""
        self._connection, connection_of_server = socket.socketpair()
        with connection_of_server:
            command = [sys.executable, str(SERVER), str(connection_of_server.fileno())]
            self._server = subprocess.Popen(command, pass_fds=[connection_of_server.fileno()])
        self._answers = self._connection.makefile("r")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._answers.close()
        self._connection.close()
        self._server.wait()

    def start(self, *words, cwd=None, env=None, terminal=None):
        """Starts a program.

        Args:
            *words: The words after ``python``: ``-W`` and an action; ``-c`` and code, ``-m`` and a module, or a file;
                then those that the program reads.
            cwd: The working directory; by default that of this process.
            env: The environment variables; by default those of this process.
            terminal: The number of an open terminal, in place of the streams ``stdout`` and ``stderr``.

        Returns:
            The `Program`.
        """
        words = [str(word) for word in words]
        (read_input, write_input), (read_output, write_output), (read_errors, write_errors) = [
            os.pipe() for _ in range(3)
        ]
        streams = (read_input, write_output, write_errors) if terminal is None else (read_input, terminal, terminal)
        with tempfile.TemporaryFile("w+") as request:
            json.dump({"words": words, "cwd": str(cwd or os.getcwd()), "env": dict(env or os.environ)}, request)
            request.flush()
            socket.send_fds(self._connection, [b"."], [request.fileno(), *streams])
        for file in (read_input, write_output, write_errors):
            os.close(file)
        return Program(words, open(write_input, "w"), open(read_output), open(read_errors), self._answers)

    def run(self, *words, cwd=None, env=None):
        """Runs a program to its end; see `start`. Returns a `subprocess.CompletedProcess` with what it wrote."""
        return self.start(*words, cwd=cwd, env=env).communicate()
