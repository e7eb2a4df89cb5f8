"""The index of a large folder: what is read with it is what is read without it, whatever happened to the files."""

import multiprocessing
import os
import shutil
import stat
import sys
from dataclasses import replace

import pytest
from made_up import AVERAGES, CONFIG, STATUS, make_run, status_with

from torchbase.command_line import run_index, run_listing
from torchbase.command_line.run_listing import Listing, read_runs
from torchbase.command_line.run_records import is_run_directory, read_run
from torchbase.files.json_lines import append_line
from torchbase.run_directory.record import Epoch, append_epoch, write_status
from torchbase.run_directory.value_ranges import extend

VALUES = extend({}, [Epoch(1, "training", 1, {"loss": float("inf")}), Epoch(2, "validation-a", 2, {"loss": 0.5})])


@pytest.fixture(autouse=True)
def for_few_runs(monkeypatch):
    """An index is used for any number of runs, and of files that were written a moment ago."""
    monkeypatch.setattr(run_listing, "RUNS_WORTH_AN_INDEX", 1)
    monkeypatch.setattr(run_index, "RUNS_WORTH_AN_INDEX", 1)
    monkeypatch.setattr(run_index, "SECONDS_UNTIL_SETTLED", 0.0)


@pytest.fixture
def parent(tmp_path):
    """A folder with one run of each kind, and another folder."""
    make_run(tmp_path, "old")
    make_run(tmp_path, "new", status=status_with(values=VALUES, seconds=3.5, directions={"loss": "min"}))
    make_run(tmp_path, "failed", status=status_with(state="failed", reason="KeyError"), config={"session": {"a": []}})
    make_run(tmp_path, "killed", status=status_with(state="running"))
    make_run(tmp_path, "begun", status=None, averages={})
    make_run(tmp_path, "damaged").joinpath("status.json").write_text("{")
    (tmp_path / "figures").mkdir()
    return tmp_path


def without_index(parent):
    names = sorted(path.name for path in parent.iterdir() if path.is_dir())
    tags = [name for name in names if is_run_directory(parent / name)]
    return Listing(tuple(read_run(parent / name) for name in tags), tuple(n for n in names if n not in tags))


def read_again(monkeypatch, parent):
    """What is read, and the names of the runs that are read from their files."""
    names = []

    def read(path):
        names.append(path.name)
        return read_run(path)

    with monkeypatch.context() as patched:
        patched.setattr(run_index, "read_run", read)
        return read_runs(parent), names


def test_only_runs_that_have_not_ended_or_are_damaged_are_read_again(parent, monkeypatch, own_cache):
    first = read_runs(parent)
    assert repr(first) == repr(without_index(parent))
    assert first.others == ("figures",)
    again, names = read_again(monkeypatch, parent)
    assert repr(again) == repr(first)
    assert names == ["begun", "damaged", "killed"]
    assert read_again(monkeypatch, parent)[1] == names
    (file,) = (own_cache / "torchbase").iterdir()
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def wait_for_the_next_tick(folder):
    """Waits until the clock of the file system moves, some milliseconds: only then a change has another time."""
    probe = folder / "probe"
    probe.touch()
    first = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == first:
        probe.touch()


def rewrite_in_place(folder):
    config = (folder / "config.json").read_text()
    times = (folder / "config.json").stat()
    (folder / "config.json").write_text(config.replace("0.1", "0.2"))  # of the same size
    os.utime(folder / "config.json", ns=(times.st_atime_ns, times.st_mtime_ns))


def swap(folder):
    os.rename(folder, folder.with_name("aside"))
    os.rename(folder.with_name("new"), folder)
    os.rename(folder.with_name("aside"), folder.with_name("new"))


def replace_by_a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("")


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


CHANGES = {
    "nothing": lambda folder: None,
    "another status": lambda folder: write_status(folder, replace(STATUS, epochs_done=2)),
    "it runs": lambda folder: write_status(folder, replace(STATUS, state="running")),
    "a damaged status": lambda folder: (folder / "status.json").write_text("{"),
    "no status": lambda folder: (folder / "status.json").unlink(),
    "another epoch": lambda folder: append_epoch(folder, Epoch(4, "training", 40, {"loss": 0.0})),
    "a damaged epoch": lambda folder: append_line(folder / "epochs.jsonl", {}),
    "no epochs": lambda folder: (folder / "epochs.jsonl").unlink(),
    "another config of the same size and time": rewrite_in_place,
    "the config of a resume": lambda folder: (folder / "config_000001_2026-11-23_00-00.json").write_text('{"a": 1}'),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "a damaged config": lambda folder: (folder / "config.json").write_text("["),
    "another run of its name": swap,
    "another name": lambda folder: folder.rename(folder.with_name("other")),
    "a copy of it": lambda folder: shutil.copytree(folder, folder.with_name("copy")),
    "a file in its place": replace_by_a_file,
    "a link in its place": lambda folder: (shutil.rmtree(folder), folder.symlink_to(folder.with_name("new"))),
    "it is removed": shutil.rmtree,
    "it is emptied": empty,
    "no folder may be read": lambda folder: folder.chmod(0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_with_a_stale_index_the_runs_are_as_without_one(parent, change, own_cache):
    read_runs(parent)
    wait_for_the_next_tick(own_cache)
    try:
        CHANGES[change](parent / "old")
        changed = without_index(parent)
        assert repr(read_runs(parent)) == repr(changed)
        assert repr(read_runs(parent)) == repr(changed)
    finally:
        if change.endswith("read"):
            (parent / "old").chmod(0o755)


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "its header alone": lambda content: content.partition(b"\n")[0] + b"\n",
    "a bit": flip,
    "more at its end": lambda content: content + b"\0",
    "anything": lambda content: b"\xff" * 1000,
    "another version": lambda content: content.replace(sys.version.split()[0].encode(), b"2.7.18"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_not_used_and_written_again(parent, monkeypatch, own_cache, damage):
    read_runs(parent)
    (file,) = (own_cache / "torchbase").iterdir()
    whole = file.read_bytes()
    file.write_bytes(DAMAGES[damage](whole))
    found, names = read_again(monkeypatch, parent)
    assert repr(found) == repr(without_index(parent))
    assert len(names) == 6
    assert file.read_bytes() == whole


def test_the_index_of_another_folder_is_not_used(parent, own_cache, tmp_path_factory, monkeypatch):
    read_runs(parent)
    (file,) = (own_cache / "torchbase").iterdir()
    other = tmp_path_factory.mktemp("other")
    make_run(other, "old", config={**CONFIG, "network": {"architecture": "Other"}})
    read_runs(other)
    (of_other,) = set((own_cache / "torchbase").iterdir()) - {file}
    of_other.write_bytes(file.read_bytes())
    assert read_runs(other).runs == without_index(other).runs


def test_an_index_that_can_not_be_written_is_a_note(parent, own_cache):
    (own_cache / "torchbase").write_text("")  # a file in the place of its folder
    found = read_runs(parent)
    assert found.runs == without_index(parent).runs
    (note,) = found.notes
    assert "listing these runs again takes as long, since their index can't be written: can't" in note
    assert str(own_cache / "torchbase") in note


def test_without_a_home_there_is_no_index(parent, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", no_home)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert repr(read_runs(parent)) == repr(without_index(parent))


def test_a_file_that_changed_a_moment_ago_is_read_again(parent, monkeypatch):
    monkeypatch.setattr(run_index, "SECONDS_UNTIL_SETTLED", 1e6)
    read_runs(parent)
    assert len(read_again(monkeypatch, parent)[1]) == 6


def test_a_few_runs_have_no_index(parent, monkeypatch, own_cache):
    monkeypatch.setattr(run_listing, "RUNS_WORTH_AN_INDEX", 500)
    assert repr(read_runs(parent)) == repr(without_index(parent))
    assert list(own_cache.iterdir()) == []


def read_often(parent, expected, results):
    for _ in range(20):
        found = repr(read_runs(parent))
        results.put(found == expected)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_commands_at_once_do_not_damage_the_index(tmp_path, monkeypatch, own_cache):
    for number in range(3):
        make_run(tmp_path, f"run-{number}", averages=AVERAGES)
    monkeypatch.setattr(run_index.RunIndex, "find", lambda index, name: None)  # each time, each command writes
    expected = repr(without_index(tmp_path))
    fork = multiprocessing.get_context("fork")
    results = fork.SimpleQueue()
    readers = [fork.Process(target=read_often, args=(tmp_path, expected, results)) for _ in range(2)]
    for reader in readers:
        reader.start()
    answers = [results.get() for _ in range(40)]
    for reader in readers:
        reader.join()
    assert all(answers)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache))
    monkeypatch.setattr(run_listing, "RUNS_WORTH_AN_INDEX", 1)
    assert read_again(monkeypatch, tmp_path)[1] == []
    assert [path.suffix for path in (own_cache / "torchbase").iterdir()] == [".index"]
