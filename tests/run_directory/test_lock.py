import os
import subprocess
import sys
import threading

import pytest

from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.lock import is_locked

LOCK_UNTIL_STDIN_CLOSES = """
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


def test_a_directory_is_locked_until_it_is_unlocked(directory):
    assert is_locked(directory.path) is False
    directory.lock()
    assert is_locked(directory.path) is True
    directory.unlock()
    assert is_locked(directory.path) is False


def test_the_lock_of_a_killed_process_is_released(directory):
    command = [sys.executable, "-c", LOCK_UNTIL_STDIN_CLOSES, str(directory.path.parent), directory.tag]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        assert is_locked(directory.path) is True
        holder.kill()
        holder.wait()
        assert is_locked(directory.path) is False


def test_checking_a_lock_changes_nothing(directory):
    is_locked(directory.path)
    assert list(directory.path.iterdir()) == []


def test_the_result_is_none_if_the_lock_cannot_be_checked(directory, monkeypatch):
    (directory.path / ".lock").touch()

    def refuse(*arguments):
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr("torchbase.run_directory.lock.fcntl.flock", refuse)
    assert is_locked(directory.path) is None
    monkeypatch.setattr("os.open", refuse)
    assert is_locked(directory.path) is None


def test_checking_a_lock_never_stops_a_session_from_locking(directory):
    directory.lock()
    directory.unlock()
    is_over = threading.Event()

    def check_repeatedly():
        while not is_over.is_set():
            is_locked(directory.path)

    threads = [threading.Thread(target=check_repeatedly) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            directory.lock()
            directory.unlock()
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
