import inspect
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from made_up import make_run, status_with
from tiny import CONFIG, StopAt, TinySession, config_with

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}")


def sections_of(text):
    """The lines of each section by its title; the first section's title is ""."""
    first, *others = text.split("\n\n")
    return {"": first.splitlines()} | {part.splitlines()[0]: part.splitlines()[1:] for part in others}


def pairs_of(lines):
    return dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in lines if line.startswith("  "))


def test_everything_recorded_about_a_run_is_shown(command, tmp_path):
    folder = make_run(tmp_path, "2026-11-22_14-03-55_host")
    status, out, err = command("show", folder)
    assert (status, err) == (0, "")
    sections = sections_of(out)
    assert sections[""] == [
        "2026-11-22_14-03-55_host",
        f"  folder       {folder}",
        "  state        finished",
        "  epochs       3 of 3, 30 iterations",
        "  started      2026-11-22 18:33:55 +0530",  # the time zone of this machine
        "  updated      2026-11-22 18:43:55 +0530",
        "  duration     unknown",
        "  process      1234 on host",
        "  best epoch   2",
        "  lowest loss  valid 0.2500 @2, demo 0.5000 @3",
    ]
    assert pairs_of(sections["config"])["session.learning_rate"] == "0.1"
    assert sections["votes"] == [
        "  epoch 1  saved      reason 1",
        "  epoch 2  saved      reason 2",
        "  epoch 3  not saved  reason 3",
    ]
    assert sections["averages of epoch 2 (best)"] == [
        "            training   valid",
        "  loss        0.5000  0.2500",
        "  accuracy    0.7000       -",
    ]
    assert "  accuracy    0.8000       -" in sections["averages of epoch 3 (last)"]
    drawing = sections["loss"]
    assert drawing[0].startswith("0.9000 ┤")
    assert drawing[-1].split() == ["1", "epoch", "3"]
    assert [line.split()[-1] for line in drawing[:-2] if line.endswith(("valid", "training"))] == ["valid", "training"]


def test_a_real_run_is_shown_with_its_environment(command, tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.register(StopAt(7))
    session()
    TinySession(config_with(num_epochs=3), tmp_path, False, Path(session.run_dir).name)()
    status, out, _ = command("show", session.run_dir)
    assert status == 0
    sections = sections_of(out)
    summary = pairs_of(sections[""][1:])
    environment = pairs_of(sections["environment"])
    assert "torch 2" in environment["packages"]
    assert environment["torch"].startswith(torch.__version__)
    assert environment["session"] == f"TinySession in {inspect.getfile(TinySession)}"
    assert environment["resumed"].endswith("session.num_epochs: 2 -> 3")
    resumed_at = summary["resumed"]
    assert environment["resumed"][: len(resumed_at) - 8] == resumed_at[:-8]  # by the same clock, a moment apart
    assert TIME.fullmatch(resumed_at)
    assert TIME.match(environment["resumed"])
    assert "CPU cores: " in environment["devices"]
    assert summary["state"] == "finished"
    assert summary["epochs"] == "3 of 3, 15 iterations"
    assert re.fullmatch(r"\d+\.\d+s, \d+\.\d+s for the last whole epoch", summary["duration"])


def test_the_group_and_the_duration_are_shown(command, tmp_path, monkeypatch):
    status = status_with(seconds=7505.0, epoch_seconds=600.0)
    _, out, _ = command("show", make_run(tmp_path, "run", status=status, group="widths"))
    assert "  group        widths\n" in out
    assert "  duration     2h05m, 10m00s for the last whole epoch\n" in out
    monkeypatch.setattr("torchbase.command_line.run_records.is_locked", lambda folder: True)
    now = datetime.now(UTC).isoformat()
    status = status_with(state="running", seconds=7505.0, updated_at=now)
    assert "  duration     2h05m so far\n" in command("show", make_run(tmp_path, "other", status=status))[1]


def test_the_reason_for_which_a_run_ended_is_shown(command, tmp_path):
    status = status_with(state="failed", reason="NonFiniteError: the loss is nan", epochs_done=1)
    _, out, _ = command("show", make_run(tmp_path, "run", status=status))
    assert "  state        failed\n  reason       NonFiniteError: the loss is nan\n" in out


def test_an_empty_run_directory_is_shown(command, tmp_path):
    folder = tmp_path / "2026-11-22_14-03-55_host"
    folder.mkdir()
    status, out, err = command("show", folder)
    assert (status, err) == (0, "")
    assert out == (
        "2026-11-22_14-03-55_host\n"
        f"  folder  {folder}\n"
        "  state   not begun\n"
        "  epochs  ? of ?, ? iterations\n"
        "\n"
        "it ended before it started to train and before it saved its config\n"
    )


def test_a_run_that_ended_before_its_first_epoch_has_no_averages(command, tmp_path):
    folder = make_run(tmp_path, "run", status=status_with(state="running", epochs_done=0, best_losses={}), averages={})
    status, out, _ = command("show", folder)
    assert status == 0
    assert pairs_of(sections_of(out)[""])["state"] == "killed"
    assert set(sections_of(out)) == {"", "config"}


def test_other_averages_are_drawn_by_name(command, tmp_path):
    folder = make_run(tmp_path, "run")
    _, out, _ = command("show", folder, "--curve", "accuracy", "--curve", "loss")
    assert list(sections_of(out))[-2:] == ["accuracy", "loss"]
    status, out, err = command("show", folder, "--curve", "acuracy")
    assert (status, out) == (2, "")
    assert "The run has no average named 'acuracy'. Did you mean 'accuracy'?" in err


def test_averages_that_are_not_finite_are_listed_but_not_drawn(command, tmp_path):
    nan = float("nan")
    folder = make_run(tmp_path, "run", averages={"training": [{"loss": nan, "other": 1.0}]})
    status, out, _ = command("show", folder)
    assert status == 0
    assert "  loss        nan" in out
    assert "loss" not in sections_of(out)
    assert "other" in sections_of(command("show", folder, "--curve", "other")[1])


def test_damaged_lines_are_counted_and_the_status_is_1(command, tmp_path):
    folder = make_run(tmp_path, "run")
    with (folder / "epochs.jsonl").open("a") as lines:
        lines.write('nothing\n{"epoch": 4, "phase": "training"}\n{"epoch": 4, "pha')
    (folder / "environment.json").write_text("[]")
    status, out, err = command("show", folder)
    assert (status, err) == (1, "")
    assert f"{folder / 'epochs.jsonl'} is damaged: 2 of its lines can't be read" in out
    assert f"{folder / 'environment.json'} isn't an environment: it contains no dictionary" in out
    assert "averages of epoch 3 (last)" in out


def test_an_environment_with_other_content_is_shown_as_far_as_possible(command, tmp_path):
    folder = make_run(tmp_path, "run")
    environment = {
        "python": "3.11",
        "packages": {"torch": None},
        "torch": {"version": "2.13.0+cu130", "cuda": "13.0", "cudnn": 92000},
        "plugins": {"greeter": {"distribution": "some-plugin", "version": "1.0"}, "other": {}},
        "git": {"commit": "abc", "dirty": True},
        "command_line": ["train.py", "--name", "two words"],
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    _, out, _ = command("show", folder)
    assert pairs_of(sections_of(out)["environment"]) == {
        "python": "3.11 on an unknown platform",
        "packages": "torch not installed",
        "torch": "2.13.0+cu130, CUDA 13.0, cuDNN 92000",
        "plugins": "greeter (some-plugin 1.0), other (an unknown package)",
        "command": "train.py --name 'two words'",
        "commit": "abc, with changes",
    }


def test_the_best_vote_and_the_last_votes_are_shown(command, tmp_path):
    values = [{"loss": loss} for loss in (0.5, 0.25, *(0.3 + number / 10 for number in range(10)))]
    folder = make_run(tmp_path, "run", averages={"validation-valid": values})
    _, out, _ = command("show", folder)
    assert [line.split()[1] for line in sections_of(out)["votes"]] == ["2", "8", "9", "10", "11", "12"]


def test_a_very_narrow_terminal_causes_no_error(command, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10")
    folder = make_run(tmp_path, "run")
    for words in (("show", folder), ("compare", folder, folder), ("runs", tmp_path), ("hooks",)):
        assert command(*words)[::2] == (0, "")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal(command, tmp_path, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    session = TinySession(CONFIG, tmp_path)
    session()
    _, out, _ = command("show", session.run_dir)
    assert max(map(len, out.splitlines())) <= width
    assert "\x1b" not in out


def test_an_unknown_run_suggests_a_name(command, tmp_path):
    make_run(tmp_path, "2026-11-22_14-03-55_host")
    status, _, err = command("show", tmp_path / "2026-11-22_14-03-56_host")
    assert status == 2
    assert err.startswith("torchbase: There is no run '2026-11-22_14-03-56_host' in ")
    assert "Did you mean '2026-11-22_14-03-55_host'?" in err


def test_a_run_of_a_number_of_iterations_shows_them(command, tmp_path):
    session = TinySession(config_with(num_epochs=None, num_iterations=7), tmp_path)
    session()
    pairs = pairs_of(sections_of(command("show", session.run_dir)[1])[""])
    assert (pairs["epochs"], pairs["iterations"], pairs["state"]) == ("1", "7 of 7", "finished")
