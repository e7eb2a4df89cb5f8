import os
import subprocess
import sys
import threading

import pytest

from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.lock import is_locked

HOLDS_THE_LOCK = """
import sys
from torchbase.run_directory.directory import RunDirectory
directory = RunDirectory.open(sys.argv[1], sys.argv[2])
directory.lock()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path):
    return RunDirectory.create(tmp_path)


def test_a_lock_is_seen_as_long_as_it_is_held(directory):
    assert is_locked(directory.path) is False
    directory.lock()
    assert is_locked(directory.path) is True
    directory.unlock()
    assert is_locked(directory.path) is False


def test_the_lock_of_a_process_that_is_killed_is_free(directory):
    command = [sys.executable, "-c", HOLDS_THE_LOCK, str(directory.path.parent), directory.tag]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        assert is_locked(directory.path) is True
        holder.kill()
        holder.wait()
        assert is_locked(directory.path) is False


def test_looking_changes_nothing(directory):
    is_locked(directory.path)
    assert list(directory.path.iterdir()) == []


def test_what_can_not_be_told_is_none(directory, monkeypatch):
    (directory.path / ".lock").touch()

    def refuse(*arguments):
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr("torchbase.run_directory.lock.fcntl.flock", refuse)
    assert is_locked(directory.path) is None
    monkeypatch.setattr("os.open", refuse)
    assert is_locked(directory.path) is None


def test_whoever_looks_keeps_no_session_from_its_run(directory):
    directory.lock()
    directory.unlock()
    is_over = threading.Event()

    def look():
        while not is_over.is_set():
            is_locked(directory.path)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(200):
            directory.lock()
            directory.unlock()
    finally:
        is_over.set()
        for looker in lookers:
            looker.join()
