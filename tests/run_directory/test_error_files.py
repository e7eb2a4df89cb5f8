"""The files in which several processes record their errors; `tests/session/test_process_failures.py` has real ones."""

import errno
import json
import time

import pytest

from torchbase.errors import ProcessesDifferError, ProcessLostError, RunDirectoryError
from torchbase.run_directory import error_files
from torchbase.run_directory.error_files import ErrorFiles, read_errors


@pytest.fixture(autouse=True)
def looks_once(monkeypatch):
    monkeypatch.setattr(error_files, "SECONDS_TO_LOOK", 0.0)
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)


def files_of(folder, index, count=3, attempt="one"):
    files = ErrorFiles(folder)
    files.share(index, count, attempt)
    return files


def recorded(files, error):
    try:
        raise error
    except BaseException as raised:
        files.record(raised)
        return getattr(raised, "__notes__", [])


def test_a_process_alone_records_nothing(tmp_path):
    assert recorded(ErrorFiles(tmp_path), ValueError("a fault")) == []
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_recorded_once_with_its_traceback(tmp_path):
    files = files_of(tmp_path, 2)
    error = ValueError("a fault\nin two lines")
    (note,) = recorded(files, error)
    assert note.startswith("on process 2 of 3, on ")
    before = (tmp_path / "errors/process-2.txt").read_text()
    assert recorded(files, error) == [note]
    assert (tmp_path / "errors/process-2.txt").read_text() == before
    assert "Traceback (most recent call last):" in before
    assert before.rstrip().endswith(note)
    (one,) = read_errors(tmp_path / "errors")
    assert (one.process, one.is_first, one.text) == (2, True, "ValueError: a fault in two lines")
    assert files.has_errors()


def test_the_earliest_error_that_is_no_consequence_is_named(tmp_path):
    recorded(files_of(tmp_path, 1), ProcessLostError("lost"))
    recorded(files_of(tmp_path, 2), ValueError("the first"))
    time.sleep(0.01)  # the clock of a machine may be coarse
    recorded(files_of(tmp_path, 3, 4), ValueError("another"))
    _, note = recorded(files_of(tmp_path, 0), ProcessLostError("lost"))
    assert "the first error was on process 2, on " in note
    assert "ValueError: the first; its traceback is in" in note


@pytest.mark.parametrize("attempt", ["another session", "another call"])
def test_an_error_of_another_attempt_is_not_named(tmp_path, attempt):
    recorded(files_of(tmp_path, 1), ValueError("old"))
    files = files_of(tmp_path, 0, attempt="one" if attempt == "another call" else "two")
    if attempt == "another call":
        files.begin_call()
    assert not files.has_errors()
    _, note = recorded(files, ProcessLostError("lost"))
    assert note.startswith("no process has recorded another error in")


def test_an_error_that_was_caused_by_a_lost_process_is_a_consequence(tmp_path):
    error = ValueError("a result of it")
    error.__cause__ = ProcessLostError("lost")
    recorded(files_of(tmp_path, 1), error)
    assert [one.is_first for one in read_errors(tmp_path / "errors")] == [False]


def test_a_file_keeps_the_errors_of_earlier_attempts_and_the_newest_counts(tmp_path):
    for attempt in ("one", "two"):
        recorded(files_of(tmp_path, 1, attempt=attempt), ValueError(f"in {attempt}"))
    assert [(one.attempt, one.text) for one in read_errors(tmp_path / "errors")] == [("two-0", "ValueError: in two")]
    text = (tmp_path / "errors/process-1.txt").read_text()
    assert text.count("Traceback") == 2
    assert text.index("in one") < text.index("in two")


@pytest.mark.parametrize("error", [KeyboardInterrupt("SIGINT ended the run"), ProcessesDifferError("they differ")])
def test_an_orderly_end_and_an_error_that_all_raise_leave_no_file(tmp_path, error):
    recorded(files_of(tmp_path, 1), error)
    assert not (tmp_path / "errors").exists()


def test_an_interrupt_at_once_is_recorded(tmp_path):
    recorded(files_of(tmp_path, 1), KeyboardInterrupt())
    assert [one.text for one in read_errors(tmp_path / "errors")] == ["KeyboardInterrupt"]


def test_files_with_other_content_are_no_errors(tmp_path):
    folder = tmp_path / "errors"
    folder.mkdir()
    (folder / "process-1.txt").write_bytes(b"\xff\xfe notes\n")
    (folder / "process-2.txt").write_text("")
    (folder / "notes.txt").write_text("process 1 of 2, on host, 2026-11-30T04:00:00+00:00, attempt a-0\nmine\n")
    assert read_errors(folder) == []
    assert read_errors(tmp_path / "missing") == []


def test_a_full_disk_does_not_hide_the_error(tmp_path, monkeypatch):
    def fail(path, write):
        raise RunDirectoryError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(error_files, "write_durably", fail)
    _, note = recorded(files_of(tmp_path, 1), ValueError("a fault"))
    assert note.startswith("this error could not be recorded for the other processes: ")


def test_the_file_of_torchrun_is_written_and_a_consequence_is_later_by_its_clock(tmp_path, monkeypatch):
    times = []
    for index, error in enumerate([ValueError("the first"), ProcessLostError("lost")]):
        file = tmp_path / f"{index}.json"
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
        recorded(files_of(tmp_path, index), error)
        message = json.loads(file.read_text())["message"]
        assert f"on process {index} of 3" in message["extraInfo"]["py_callstack"]
        times.append(int(message["extraInfo"]["timestamp"]))
    assert times[0] < times[1]


def test_the_file_of_torchrun_is_written_for_a_process_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    recorded(ErrorFiles(tmp_path), ValueError("a fault"))
    assert "ValueError: a fault" in (tmp_path / "error.json").read_text()
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "missing" / "error.json"))
    (note,) = recorded(ErrorFiles(tmp_path), ValueError("a fault"))
    assert note.startswith("this error could not be recorded for torchrun: ")
