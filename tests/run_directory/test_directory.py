import errno
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from torchbase.checkpoints.listing import has_results
from torchbase.checkpoints.storage import write_checkpoint
from torchbase.errors import RunDirectoryError, RunDirectoryLockedError
from torchbase.files.durable import write_json
from torchbase.files.tensors import write_tensors
from torchbase.run_directory.directory import RunDirectory, names_file_in

LOCK_UNTIL_STDIN_CLOSES = """
import sys
from torchbase.run_directory.directory import RunDirectory
directory = RunDirectory.open(".", sys.argv[1])
directory.lock()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def new(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "runs")


def test_a_new_directory_is_named_by_time_and_host(tmp_path):
    made = RunDirectory.create(tmp_path / "deep" / "runs")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[A-Za-z0-9.-]+", made.tag)
    assert made.path == tmp_path / "deep" / "runs" / made.tag
    assert made.path.is_dir()
    assert made.is_new


def test_the_postfix_ends_the_tag(tmp_path):
    assert RunDirectory.create(tmp_path, "wide_1.5-b").tag.endswith("_wide_1.5-b")


@pytest.mark.parametrize("postfix", ["", "a b", "a/b", "../a", "a\n", "é", "a:b", "\0"])
def test_a_postfix_that_cannot_be_part_of_a_name_is_refused(tmp_path, postfix):
    with pytest.raises(RunDirectoryError, match="postfix"):
        RunDirectory.create(tmp_path / "runs", postfix)
    assert not (tmp_path / "runs").exists()


def test_the_characters_of_the_host_name_are_made_safe(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "my host/é_1")
    assert RunDirectory.create(tmp_path).tag.endswith("_my-host-1")


def test_the_path_stays_the_same_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = RunDirectory.create("runs")
    found = RunDirectory.open("runs", made.tag)
    monkeypatch.chdir("/")
    assert made.path == found.path == tmp_path / "runs" / made.tag


def test_directories_made_at_once_are_different(tmp_path, monkeypatch):
    second = datetime(2026, 11, 22, 14, 3, 55)
    monkeypatch.setattr("torchbase.run_directory.directory.datetime", SimpleNamespace(now=lambda: second))
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: RunDirectory.create(tmp_path, "same"), range(24)))
    assert len({directory.tag for directory in made}) == 24
    assert any(directory.tag.endswith("_same-2") for directory in made)


def test_processes_that_start_at_once_get_different_directories(tmp_path):
    script = r"""if True:
        import datetime, os, types
        from torchbase.run_directory import directory
        from torchbase.run_directory.directory import RunDirectory
        second = datetime.datetime(2026, 11, 22, 14, 3, 55)
        directory.datetime = types.SimpleNamespace(now=lambda: second)
        start, barrier = os.pipe()
        children = []
        for _ in range(6):
            if not (child := os.fork()):
                os.close(barrier)
                os.read(start, 1)
                for _ in range(4):
                    os.write(1, RunDirectory.create(".").tag.encode() + b"\n")
                os._exit(0)
            children.append(child)
        os.close(barrier)
        assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    """
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    tags = done.stdout.split()
    assert len(tags) == len(set(tags)) == 24
    assert sorted(tags) == sorted(path.name for path in tmp_path.iterdir())
    assert any(tag.endswith("-2") for tag in tags)


def test_a_file_in_the_place_of_the_folder_of_runs_is_named(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(RunDirectoryError, match=r"runs.*in its place"):
        RunDirectory.create(tmp_path / "runs")


def test_a_name_that_is_too_long_is_an_error_and_not_tried_forever(tmp_path):
    with pytest.raises(RunDirectoryError) as caught:
        RunDirectory.create(tmp_path, "x" * 300)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_an_earlier_directory_is_found_by_its_tag(new):
    found = RunDirectory.open(new.path.parent, new.tag)
    assert (found.path, found.tag, found.is_new) == (new.path, new.tag, False)


@pytest.mark.parametrize("tag", ["", ".", "..", "../../x", "../runs", "/etc", "/", "a/b", "a/", "./a", "a\\b", "a\0"])
def test_a_tag_that_is_not_a_plain_name_is_refused(tmp_path, tag):
    for folder in ("runs/a/b", "runs/a\\b"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(RunDirectoryError, match="isn't the tag of a run"):
        RunDirectory.open(tmp_path / "runs", tag)


def test_a_link_that_leads_out_of_the_folder_of_runs_is_refused(tmp_path):
    (tmp_path / "runs" / "real").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for name, target in {"out": "../outside", "self": ".", "loop": "loop", "other": "real"}.items():
        (tmp_path / "runs" / name).symlink_to(target)
    for name in ("out", "self"):
        with pytest.raises(RunDirectoryError, match="leads out"):
            RunDirectory.open(tmp_path / "runs", name)
    with pytest.raises(RunDirectoryError, match="no run directory"):
        RunDirectory.open(tmp_path / "runs", "loop")
    assert RunDirectory.open(tmp_path / "runs", "other").tag == "other"


def test_the_folder_of_runs_may_itself_be_a_link(tmp_path):
    made = RunDirectory.create(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    assert RunDirectory.open(tmp_path / "link", made.tag).file("a/b").parent.is_dir()


def test_the_error_of_a_missing_tag_has_the_nearest_and_the_newest_tags(tmp_path):
    for day in range(10, 20):
        (tmp_path / f"2026-11-{day}_10-00-00_host").mkdir()
    with pytest.raises(RunDirectoryError) as caught:
        RunDirectory.open(tmp_path, "2026-11-12_10-00-00_hots")
    message = str(caught.value)
    assert "Did you mean '2026-11-12_10-00-00_host'?" in message
    assert re.findall(r"11-(\d+)_10-00-00_host(?=[,.])", message) == ["19", "18", "17", "16", "15"]


def test_a_missing_tag_in_an_empty_or_missing_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="is empty"):
        RunDirectory.open(tmp_path, "file")
    with pytest.raises(RunDirectoryError, match="isn't a folder"):
        RunDirectory.open(tmp_path / "missing", "tag")


def test_the_path_of_a_file_is_inside_and_its_folder_is_made(new):
    assert new.file("config.json") == new.path / "config.json"
    assert new.file("states/seeds.json") == new.path / "states" / "seeds.json"
    assert sorted(path.name for path in new.path.iterdir()) == ["states"]


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/../b", "a/../../b", "/etc/passwd", "out/a", "out", "a\0"])
def test_a_file_outside_of_the_directory_is_refused(new, name):
    (new.path.parent / "outside").mkdir()
    (new.path / "out").symlink_to("../outside")
    with pytest.raises(RunDirectoryError, match="inside the run directory"):
        new.file(name)
    assert list((new.path.parent / "outside").iterdir()) == []


def test_the_folder_of_states_is_created_on_first_access(new):
    assert not (new.path / "states").exists()
    assert new.states == new.path / "states"
    assert new.states.is_dir()


def test_a_directory_can_be_locked_and_unlocked_repeatedly(new):
    other = RunDirectory.open(new.path.parent, new.tag)
    new.unlock()
    for _ in range(2):
        new.lock()
        new.lock()
        with pytest.raises(RunDirectoryLockedError, match=new.tag):
            other.lock()
        new.unlock()
        new.unlock()
        other.lock()
        other.unlock()


def test_all_threads_of_a_session_share_its_lock(new):
    new.lock()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(new.lock).result()
        threads.submit(new.unlock).result()
    other = RunDirectory.open(new.path.parent, new.tag)
    other.lock()
    with pytest.raises(RunDirectoryLockedError):
        new.lock()


@pytest.mark.parametrize("killed", [False, True])
def test_a_lock_of_another_process_holds_until_it_ends_or_is_killed(new, killed):
    command = [sys.executable, "-c", LOCK_UNTIL_STDIN_CLOSES, new.tag]
    with subprocess.Popen(command, cwd=new.path.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(
            RunDirectoryLockedError, match=r"Another session is writing to .* wait until that session has ended"
        ):
            new.lock()
        if killed:
            holder.kill()
        holder.communicate()
        assert holder.returncode == (-signal.SIGKILL if killed else 0)
    new.lock()


def test_an_error_of_the_operating_system_is_not_mistaken_for_a_lock(new):
    (new.path / ".lock").mkdir()
    with pytest.raises(RunDirectoryError, match="lock") as caught:
        new.lock()
    assert not isinstance(caught.value, RunDirectoryLockedError)


def test_a_directory_without_results_is_removed_with_a_warning(new, caplog):
    new.lock()
    write_json(new.file("config.json"), {})
    write_json(new.file("states/seeds.json"), {})
    (new.states / ".checkpoint-epoch-000000-iteration-0000000001.0123456789abcdef.tmp").mkdir()
    assert not has_results(new.path)
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert new.remove_unless(has_results)
    assert not new.path.exists()
    assert list(new.path.parent.iterdir()) == []
    assert str(new.path) in caplog.text
    assert not new.remove_unless(has_results)


def test_a_directory_with_a_checkpoint_is_not_removed(new, caplog):
    write_checkpoint(new.states, 0, 1, {"value": 1})
    assert has_results(new.path)
    assert not new.remove_unless(has_results)
    assert new.path.is_dir()
    assert caplog.text == ""


def test_a_directory_with_the_network_is_not_removed(new):
    write_tensors(new.file("network.pth"), {})
    assert has_results(new.path)
    assert not new.remove_unless(has_results)
    assert new.path.is_dir()


def test_an_earlier_directory_is_not_removed(new):
    found = RunDirectory.open(new.path.parent, new.tag)
    assert not found.remove_unless(has_results)
    assert os.listdir(new.path.parent) == [new.tag]


def error_with(raised, note="", cause=""):
    try:
        raise KeyError(raised) from OSError(cause)
    except KeyError as error:
        error.add_note(note)
        return error


@pytest.mark.parametrize("where", ["raised", "note", "cause"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_file_that_an_error_names_is_found_if_it_exists(new, where, relative):
    folder = new.path.relative_to(new.path.parent.parent) if relative else new.path
    error = error_with(**{"raised": "", where: f"the sample is saved in {folder / 'dumps' / 'sample.pth'}."})
    assert not names_file_in(new.path, error)
    new.file("dumps/other.pth").touch()
    assert not names_file_in(new.path, error)
    new.file("dumps/sample.pth").touch()
    assert names_file_in(new.path, error)
    assert not names_file_in(new.path, error_with(f"something is wrong in {folder} and {folder / 'dumps'}"))
