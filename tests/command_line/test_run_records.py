import json
import os
import signal
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from made_up import CONFIG, STATUS, make_run, status_with
from tiny import StopAt, TinySession, config_with

from torchbase import hookimpl
from torchbase.command_line.run_listing import read_runs
from torchbase.command_line.run_records import differing_paths, find_run, flatten, read_run
from torchbase.errors import RunDirectoryError
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.record import write_status

KILLED = """
    import os, signal, sys

    sys.path.insert(0, sys.argv[1])
    from tiny import CONFIG, TinySession

    from torchbase import hookimpl


    class Kill:
        @hookimpl
        def on_iteration_start(self, run):
            if run.progress.iterations == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)


    session = TinySession(CONFIG, sys.argv[2])
    session.register(Kill())
    session()
"""


def killed_at(programs, iteration, parent):
    program = textwrap.dedent(KILLED)
    tests = str(Path(__file__).parents[1])
    done = programs.run("-c", program, tests, parent, iteration)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (folder,) = parent.iterdir()
    return folder


def test_a_finished_run_is_read(tmp_path):
    session = TinySession(config_with(), tmp_path)
    summary = session()
    run = read_run(Path(session.run_dir))
    assert (run.state, run.epochs_done, run.max_epochs, run.iterations) == ("finished", 2, 2, 10)
    assert {name: best.loss for name, best in run.best_losses.items()} == {
        name: best.loss for name, best in summary.best_losses.items()
    }
    assert run.config == config_with()
    assert (run.notes, run.damages) == ((), ())


def test_a_run_is_running_while_its_process_holds_the_lock(tmp_path):
    seen = []

    class ReadState:
        @hookimpl
        def on_epoch_start(self, run):
            seen.append(read_run(run.run_directory.path).state)

    session = TinySession(config_with(), tmp_path)
    seen.append(read_run(Path(session.run_dir)).state)  # it holds the lock, and hasn't started to train
    session.register(ReadState())
    session.register(StopAt(7))
    session()
    assert seen == ["running", "running", "running"]
    assert read_run(Path(session.run_dir)).state == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(("iteration", "epochs_done"), [(2, 0), (8, 1)])
def test_a_run_whose_process_was_killed_is_recognized(programs, tmp_path, iteration, epochs_done):
    run = read_run(killed_at(programs, iteration, tmp_path))
    assert (run.state, run.epochs_done, run.max_epochs) == ("killed", epochs_done, 2)
    assert run.status.state == "running"


def test_without_usable_locks_a_running_run_is_uncertain(tmp_path, monkeypatch):
    monkeypatch.setattr("torchbase.command_line.run_records.is_locked", lambda folder: None)
    run = read_run(make_run(tmp_path, "run", status=status_with(state="running")))
    assert run.state == "running?"
    note = "can't determine from here whether its process still runs; it did at 2026-11-22 18:43:55 +0530"
    assert run.notes == (note,)


def test_a_run_without_a_status_is_read_from_its_checkpoints_and_config(tmp_path):
    session = TinySession(config_with(), tmp_path)
    session()
    folder = Path(session.run_dir)
    (folder / "status.json").unlink()
    run = read_run(folder)
    assert (run.state, run.epochs_done, run.max_epochs, run.iterations) == ("unknown", 2, 2, 10)
    assert run.notes == ("it has no status.json, for example because it had no RunRecord hook",)


def test_the_values_of_a_run_without_them_in_its_status_are_those_of_its_epochs(tmp_path):
    session = TinySession(config_with(), tmp_path)
    session()
    folder = Path(session.run_dir)
    recorded = read_run(folder)
    write_status(folder, replace(recorded.status, values=None))
    assert read_run(folder).values == recorded.values
    (folder / "status.json").unlink()
    assert read_run(folder).values == recorded.values
    with (folder / "epochs.jsonl").open("a") as lines:
        lines.write("nothing\n")
    damaged = read_run(folder)
    assert damaged.values == recorded.values
    assert damaged.damages == (f"{folder / 'epochs.jsonl'} is damaged: 1 of its lines can't be read",)


@pytest.mark.parametrize(
    ("session", "group"), [({"group": "widths"}, "widths"), ({}, None), ({"group": 3}, None), ([1], None)]
)
def test_the_group_of_a_run_is_that_of_its_config(tmp_path, session, group):
    folder = make_run(tmp_path, "run")
    (folder / "config.json").write_text(json.dumps({"session": session}))
    assert read_run(folder).group == group


def test_the_duration_of_a_running_run_continues(tmp_path, monkeypatch):
    ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    status = status_with(state="running", seconds=5.0, epoch_seconds=2.0, updated_at=ago)
    folder = make_run(tmp_path, "run", status=status)
    killed = read_run(folder)
    assert (killed.state, killed.seconds, killed.epoch_seconds) == ("killed", 5.0, 2.0)
    monkeypatch.setattr("torchbase.command_line.run_records.is_locked", lambda folder: True)
    running = read_run(folder)
    assert running.state == "running"
    assert 3605.0 <= running.seconds < 3605.0 + 600.0
    write_status(folder, replace(status, updated_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat()))
    assert read_run(folder).seconds == 5.0  # the clock of another machine may be ahead
    assert read_run(make_run(tmp_path, "older")).seconds is None


def test_a_run_that_ends_while_it_is_read_is_not_reported_as_killed(tmp_path, monkeypatch):
    folder = make_run(tmp_path, "run", status=status_with(state="running"))

    def end_now(path):
        write_status(path, STATUS)
        return False

    monkeypatch.setattr("torchbase.command_line.run_records.is_locked", end_now)
    assert read_run(folder).state == "finished"


def test_a_run_that_ended_before_training_is_not_begun(tmp_path):
    session = TinySession(config_with(), tmp_path)
    assert read_run(Path(session.run_dir)).state == "running"
    session._run_directory.unlock()  # as if the program was killed
    run = read_run(Path(session.run_dir))
    assert (run.state, run.epochs_done, run.max_epochs) == ("not begun", None, 2)
    assert run.notes == ("it ended before it started to train",)


def test_an_empty_run_directory_is_a_run(tmp_path):
    run = read_run(RunDirectory.create(tmp_path).path)
    assert (run.state, run.epochs_done, run.max_epochs, run.config) == ("not begun", None, None, {})
    assert run.notes == ("it ended before it started to train and before it saved its config",)
    assert read_runs(tmp_path).runs == (run,)


@pytest.mark.parametrize("content", [b"", b'{"session": {"num_ep', b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("name", ["status.json", "config.json"])
def test_a_damaged_file_is_reported_and_the_rest_is_read(tmp_path, name, content):
    folder = make_run(tmp_path, "run")
    (folder / name).write_bytes(content)
    run = read_run(folder)
    assert len(run.damages) == 1
    assert f"{folder / name} is damaged" in run.damages[0]
    assert run.max_epochs == 3
    assert (run.status is None) == (name == "status.json")
    assert (run.config == {}) == (name == "config.json")


@pytest.mark.parametrize("config", [[1], 3, None, "text"])
def test_a_config_of_another_kind_is_damage(tmp_path, config):
    folder = make_run(tmp_path, "run")
    (folder / "config.json").write_text(json.dumps(config))
    assert read_run(folder).config == {}
    assert len(read_run(folder).damages) == (config is not None)


@pytest.mark.parametrize("session", [None, [1], {"num_epochs": "many"}])
def test_a_config_without_epochs_is_no_damage(tmp_path, session):
    folder = make_run(tmp_path, "run", status=None)
    (folder / "config.json").write_text(json.dumps({"session": session}))
    assert read_run(folder).max_epochs is None
    assert read_run(folder).damages == ()


def test_other_folders_are_listed_apart(tmp_path):
    run = make_run(tmp_path, "2026-11-22_14-03-55_host")
    for name in ("figures", ".cache", "old"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "linked").symlink_to(run)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    listing = read_runs(tmp_path)
    assert [run.tag for run in listing.runs] == ["2026-11-22_14-03-55_host", "linked"]
    assert listing.others == ("figures", "old")


def test_a_run_directory_in_place_of_a_folder_of_runs_is_an_error(tmp_path):
    run = make_run(tmp_path, "run")
    with pytest.raises(RunDirectoryError, match=r"is a run directory, but a folder.*torchbase show"):
        read_runs(run)
    with pytest.raises(RunDirectoryError, match="can't list"):
        read_runs(tmp_path / "missing")


def test_the_newest_config_is_read(tmp_path):
    folder = make_run(tmp_path, "run")
    (folder / "config_2026-11-23_00-00-00-000000.json").write_text(json.dumps({"session": {"num_epochs": 9}}))
    assert read_run(folder).config == {"session": {"num_epochs": 9}}


def test_a_run_is_found_by_its_path_or_by_its_tag_in_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs", "mine")
    make_run(tmp_path, "here")
    assert find_run("mine") == Path("runs/mine")
    assert find_run("here") == Path("here")
    assert find_run("runs/mine") == Path("runs/mine")
    assert find_run(str(tmp_path / "here")) == tmp_path / "here"
    monkeypatch.chdir(tmp_path / "here")
    assert find_run(".") == tmp_path / "here"
    os.chdir("states")
    assert find_run("..") == tmp_path / "here"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mien", r"There is no run 'mien' in runs\. Did you mean 'mine'\?"),
        ("runs/mien", r"There is no run 'mien' in runs\. Did you mean 'mine'\?"),
        ("quite-another", r"`torchbase runs runs` lists the existing runs"),
        ("nowhere/mine", r"the folder nowhere doesn't exist"),
        ("runs", r"runs isn't a run directory: it contains neither config\.json nor status\.json"),
    ],
)
def test_a_run_that_does_not_exist_is_an_error_that_suggests_a_name(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs", "mine")
    with pytest.raises(RunDirectoryError, match=message):
        find_run(name)


def test_a_missing_folder_of_runs_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunDirectoryError, match="the folder runs doesn't exist"):
        find_run("mine")


def test_a_config_is_flattened():
    config = {
        "session": {"num_epochs": 3, "loss_function_params": {"a": None}},
        "data": {},
        "network": {"sizes": [1, 2]},
    }
    assert flatten(config) == {
        "session.num_epochs": 3,
        "session.loss_function_params.a": None,
        "data": {},
        "network.sizes": [1, 2],
    }
    assert flatten({}) == {}


def test_configs_differ_where_values_differ():
    first = {"b": 1, "a": [1], "c": True, "d": 1, "e": None}
    second = {"b": 2, "a": [1], "c": 1, "d": 1}
    assert differing_paths([first, second]) == ["b", "c", "e"]
    assert differing_paths([first, first]) == differing_paths([first]) == differing_paths([]) == []
    assert differing_paths([first, {}]) == []  # a config that can't be read is ignored


def test_a_made_up_run_has_the_files_of_a_real_run(tmp_path):
    session = TinySession(config_with(num_epochs=1), tmp_path)
    session()
    written = {path.name for path in Path(session.run_dir).iterdir()}
    made_up = {path.name for path in make_run(tmp_path, "run").iterdir()}
    assert made_up <= written
    assert STATUS.max_epochs == CONFIG["session"]["num_epochs"]
