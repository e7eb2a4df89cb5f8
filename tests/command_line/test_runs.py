import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import make_run, status_with

from torchbase.run_directory.record import Epoch
from torchbase.run_directory.status import Best
from torchbase.run_directory.value_ranges import extend


def losses(valid, demo=0.5):
    return {"validation-valid": Best(valid, 2), "validation-demo": Best(demo, 10)}


@pytest.fixture
def parent(tmp_path):
    """A folder with four runs, one of them failed, and another folder."""
    make_run(tmp_path, "2026-01-01_00-00-00_host", status=status_with(best_losses=losses(0.25)), learning_rate=0.1)
    failed = status_with(state="failed", reason="KeyError", epochs_done=1, best_losses=losses(float("nan")))
    make_run(tmp_path, "2026-01-02_00-00-00_host", status=failed, learning_rate=0.001)
    make_run(tmp_path, "2026-01-03_00-00-00_host", status=status_with(best_losses=losses(0.0625)), learning_rate=0.01)
    make_run(tmp_path, "2026-01-04_00-00-00_host", status=None, averages={}, weight_decay=0.5)
    (tmp_path / "figures").mkdir()
    return tmp_path


def rows_of(text):
    return [line.split() for line in text.split("\n\n")[0].splitlines()]


def test_the_table_has_a_line_per_run(command, parent):
    status, out, err = command("runs", parent)
    assert (status, err) == (0, "")
    assert out == (
        "run                       state      epochs  valid loss   demo loss  learning_rate  weight_decay\n"
        "2026-01-01_00-00-00_host  finished      3/3   0.2500 @2  0.5000 @10            0.1             -\n"
        "2026-01-02_00-00-00_host  failed        1/3      nan @2  0.5000 @10          0.001             -\n"
        "2026-01-03_00-00-00_host  finished      3/3  0.06250 @2  0.5000 @10           0.01             -\n"
        "2026-01-04_00-00-00_host  not begun     ?/3        -          -                0.1           0.5\n"
        "\n"
        "2026-01-04_00-00-00_host: it ended before it started to train\n"
        "other folders: figures\n"
    )


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_the_table_fits_the_terminal_and_names_hidden_columns(command, parent, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    _, out, _ = command("runs", parent)
    assert max(map(len, out.splitlines())) <= width
    header = out.splitlines()[0]
    for name in ("valid loss", "demo loss", "learning_rate", "weight_decay"):
        assert (name in header) != (name in re.sub(r"\s+", " ", out.partition("too wide to show: ")[2]))
    assert ("learning_rate" in header) == (width >= 80)


@pytest.mark.parametrize(
    ("key", "days"),
    [
        ("run", "1234"),
        ("state", "2134"),
        ("epochs", "2134"),
        ("valid", "3124"),
        ("validation-valid", "3124"),
        ("learning_rate", "2314"),
        ("session.learning_rate", "2314"),
        ("weight_decay", "4123"),
        ("updated", "1234"),
    ],
)
def test_runs_are_sorted_by_a_key_and_runs_without_it_come_last(command, parent, key, days):
    _, out, _ = command("runs", parent, "--sort", key)
    assert [row[0][9] for row in rows_of(out)[1:]] == list(days)


def test_an_unknown_key_is_an_error_that_suggests_a_key(command, parent):
    status, out, err = command("runs", parent, "--sort", "learning_rat")
    assert (status, out) == (2, "")
    assert "The runs have no key 'learning_rat'. Did you mean 'learning_rate'?" in err


def groups_of(parent):
    """Two runs of the group "widths", the first and the last, one of "rates" and one of no group, with accuracies."""
    for number, group in enumerate(("widths", "rates", None, "widths"), start=1):
        accuracies = (0.25 * number, 0.375)
        values = [{"loss": 1 / number, "accuracy": accuracy} for accuracy in accuracies]
        status = status_with(
            best_losses=losses(1 / number),
            seconds=100.0 / number,
            epoch_seconds=2.0 * number,
            values=extend({}, [Epoch(e, "validation-valid", e, one) for e, one in enumerate(values, start=1)]),
            directions={"loss": "min", "accuracy": "max"},
        )
        session = {} if group is None else {"group": group}
        make_run(parent, f"2026-01-0{number}_host", status=status, learning_rate=0.1 * number, **session)


def days_of(out):
    return [line[9] for line in out.splitlines() if line.startswith("2026-01-0")]


def test_runs_are_listed_by_their_groups(command, tmp_path, monkeypatch):
    groups_of(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = command("runs", tmp_path, "--sort", "learning_rate")
    assert out.splitlines()[:8] == [
        "run              state     epochs  learning_rate  valid loss   demo loss",
        "group widths, 2 runs",
        "2026-01-01_host  finished     3/3            0.1    1.000 @2  0.5000 @10",
        "2026-01-04_host  finished     3/3            0.4   0.2500 @2  0.5000 @10",
        "group rates, 1 run",
        "2026-01-02_host  finished     3/3            0.2   0.5000 @2  0.5000 @10",
        "no group, 1 run",
        "2026-01-03_host  finished     3/3            0.3   0.3333 @2  0.5000 @10",
    ]
    assert days_of(command("runs", tmp_path, "--sort", "valid")[1]) == list("4132")


def test_in_a_pipe_the_group_is_a_column(command, tmp_path):
    groups_of(tmp_path)
    rows = rows_of(command("runs", tmp_path)[1])
    assert rows[0][:3] == ["run", "group", "state"]
    assert [row[1] for row in rows[1:]] == ["widths", "widths", "rates", "-"]
    found = json.loads(command("runs", tmp_path, "--json")[1])
    assert [run["group"] for run in found] == ["widths", "rates", None, "widths"]
    assert "session.group" not in found[0]["differing_config"]


@pytest.mark.parametrize(
    ("key", "days"),
    [
        ("valid/accuracy", "4321"),  # the highest is the best
        ("valid/accuracy/highest", "4321"),
        ("validation-valid/accuracy/highest", "4321"),
        ("valid/accuracy/highest_epoch", "2341"),
        ("valid/loss", "4321"),
        ("valid/loss/last", "4321"),
        ("duration", "4321"),
        ("epoch_time", "1234"),
        ("session.group", "2143"),
        ("started", "1234"),
    ],
)
def test_runs_are_sorted_by_any_value_of_an_epoch_and_by_times(command, tmp_path, key, days):
    groups_of(tmp_path)
    found = json.loads(command("runs", tmp_path, "--json", "--sort", key)[1])
    assert [run["run"][9] for run in found] == list(days)


def test_the_column_of_a_key_that_is_shown_or_sorted_by_is_added(command, tmp_path, monkeypatch):
    groups_of(tmp_path)
    words = ("runs", tmp_path, "--where", "group=widths", "--sort", "valid/accuracy", "--show", "valid/loss/last")
    rows = rows_of(command(*words)[1])
    assert rows[0][4:6] == ["valid/accuracy/highest", "valid/loss/last"]
    assert [row[4:7] for row in rows[1:]] == [["1.000", "@1", "0.2500"], ["0.3750", "@2", "1.000"]]
    monkeypatch.setenv("COLUMNS", "80")
    assert "valid/accuracy/highest" in command(*words)[1].splitlines()[0]
    assert "duration" in command("runs", tmp_path, "--show", "duration")[1].splitlines()[0]
    assert "duration" not in command("runs", tmp_path, "--show", "started")[1].splitlines()[0]


@pytest.mark.parametrize("key", ["run", "state", "epochs"])
def test_showing_what_is_shown_anyway_changes_nothing(command, tmp_path, monkeypatch, key):
    groups_of(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    shown = command("runs", tmp_path)
    assert command("runs", tmp_path, "--show", key) == shown
    assert days_of(command("runs", tmp_path, "--show", "group", "--where", "group='rates'")[1]) == ["2"]


def test_durations_are_columns(command, tmp_path):
    groups_of(tmp_path)
    rows = rows_of(command("runs", tmp_path)[1])
    position = rows[0].index("duration")
    assert [row[position : position + 2] for row in rows[1:]][::3] == [["1m40s", "2.00s"], ["33.3s", "6.00s"]]


def test_runs_are_filtered_by_conditions(command, tmp_path):
    groups_of(tmp_path)
    status, out, err = command("runs", tmp_path, "--where", "learning_rate>=0.2", "--where", "group = widths")
    assert (status, err) == (0, "")
    assert days_of(out) == ["4"]
    assert "\n1 of 4 runs meet the conditions\n" in out
    status, out, err = command("runs", tmp_path, "--where", "valid/accuracy<0")
    assert (status, out, err) == (0, f"none of the 4 runs in {tmp_path} meets the conditions\n", "")
    status, out, err = command("runs", tmp_path, "--where", "state=finised")
    assert (status, out, err) == (2, "", "torchbase: There is no state 'finised'. Did you mean 'finished'?\n")
    status, out, err = command("runs", tmp_path, "--sort", "zzzz")
    assert "Available: run, group, state," in err
    assert "valid/accuracy, " in err
    assert "/highest" not in err
    status, out, err = command("runs", tmp_path, "--where", "learning_rat<0.2")
    assert (status, out) == (2, "")
    assert "The runs have no key 'learning_rat'. Did you mean 'learning_rate'?" in err


def test_a_damaged_run_is_named_although_a_condition_leaves_it_out(command, parent):
    (parent / "2026-01-03_00-00-00_host" / "config.json").write_text('{"session": {"learn')
    status, out, _ = command("runs", parent, "--where", "learning_rate=0.1")
    assert status == 1
    assert "2026-01-03_00-00-00_host: " in out


def test_csv_has_a_line_per_run_with_all_values_and_the_whole_config(command, parent):
    status, out, err = command("runs", parent, "--csv", "--sort", "valid")
    assert (status, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["run"][9] for row in rows] == ["3", "1", "2", "4"]
    assert rows[0]["session.learning_rate"] == "0.01"
    assert rows[0]["valid/loss/lowest"] == "0.25"
    assert rows[0]["training/accuracy/highest_epoch"] == "3"
    assert rows[2]["reason"] == "KeyError"
    assert rows[3]["valid/loss/lowest"] == ""
    assert rows[3]["notes"] == "it ended before it started to train"
    assert all(None not in row for row in rows)


def test_csv_holds_any_text_and_value(command, tmp_path):
    nan = float("nan")
    config = {"session": {}, "network": {"note": 'a,"b"\nc', "sizes": [1, 2], "wide": True, "none": None}}
    make_run(tmp_path, "run", config=config, averages={"training": [{"loss": nan, "a,b": 0.1 + 0.2}]})
    (row,) = csv.DictReader(io.StringIO(command("runs", tmp_path, "--csv")[1]))
    assert (row["network.note"], row["network.sizes"]) == ('a,"b"\nc', "[1, 2]")
    assert (row["network.wide"], row["network.none"]) == ("true", "")
    assert (row["training/loss/lowest"], row["training/a,b/last"]) == ("nan", "0.30000000000000004")


def test_json_and_csv_of_no_runs_are_empty(command, tmp_path):
    assert command("runs", tmp_path, "--json")[1] == "[]\n"
    assert command("runs", tmp_path, "--csv", "--sort", "valid", "--where", "a=1")[1] == "\n"


def test_runs_without_validation_have_the_loss_of_training(command, tmp_path):
    make_run(tmp_path, "run", status=status_with(best_losses={}), averages={"training": [{"loss": 0.5}]})
    assert rows_of(command("runs", tmp_path)[1]) == [
        ["run", "state", "epochs", "training", "loss"],
        ["run", "finished", "3/3", "0.5000", "@1"],
    ]


def test_json_has_everything(command, parent):
    status, out, _ = command("runs", parent, "--json", "--sort", "valid")
    assert status == 0
    runs = json.loads(out, parse_constant=pytest.fail)
    assert [run["run"][9] for run in runs] == ["3", "1", "2", "4"]
    third, _, failed, unknown = runs
    assert third["best_losses"]["validation-valid"] == {"loss": 0.0625, "epoch": 2}
    assert third["values"]["training"]["loss"]["lowest"] == 0.125
    assert third["differing_config"] == {"session.learning_rate": 0.01}
    assert third["config"]["session"]["num_epochs"] == 3
    assert (failed["state"], failed["reason"]) == ("failed", "KeyError")
    assert failed["best_losses"]["validation-valid"]["loss"] == "nan"
    assert unknown["started_at"] is None
    assert unknown["notes"] == ["it ended before it started to train"]


def test_a_damaged_run_is_listed_with_a_note_and_status_1(command, parent):
    (parent / "2026-01-03_00-00-00_host" / "config.json").write_text('{"session": {"learn')
    status, out, err = command("runs", parent)
    assert (status, err) == (1, "")
    assert "0.06250 @2" in out
    assert re.search(r"^2026-01-03_00-00-00_host: .*config\.json is damaged, it isn't JSON", out, re.MULTILINE)


def test_a_folder_without_runs_is_reported(command, tmp_path):
    assert command("runs", tmp_path) == (0, f"no runs in {tmp_path}\n", "")
    status, out, err = command("runs", tmp_path / "missing")
    assert (status, out) == (2, "")
    assert "can't list" in err


def test_the_default_folder_is_runs(command, tmp_path, monkeypatch):
    make_run(tmp_path / "runs", "mine")
    monkeypatch.chdir(tmp_path)
    assert rows_of(command("runs")[1])[1][0] == "mine"


def test_config_values_are_shown_in_one_line(command, tmp_path, monkeypatch):
    for number, name in enumerate(("a\nb\x1b[31m", "wide 漢字 " * 9, "")):
        make_run(tmp_path, f"run-{number}", config={"session": {}, "network": {"note": name, "sizes": [number, 2]}})
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = command("runs", tmp_path)
    assert "\x1b" not in out
    assert rows_of(out)[1][-3:-1] == ["a\\nb\\x1b[31m", "[0,"]
    assert "…" in out.splitlines()[2]
    assert "''" in out.splitlines()[3]


def test_keys_with_the_same_name_are_shown_by_their_paths(command, tmp_path):
    for number in range(2):
        make_run(tmp_path, f"run-{number}", config={"session": {"size": number}, "network": {"size": number}})
    _, out, _ = command("runs", tmp_path)
    assert rows_of(out)[0][-2:] == ["session.size", "network.size"]


def test_a_tag_that_is_too_wide_leaves_room_for_other_columns(command, tmp_path, monkeypatch):
    make_run(tmp_path, "x" * 150)
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = command("runs", tmp_path)
    assert rows_of(out)[1][:3] == ["x" * 47 + "…", "finished", "3/3"]


def test_many_notes_are_counted(command, tmp_path):
    for number in range(15):
        make_run(tmp_path, f"2026-01-01_00-00-{number:02d}_host", status=None, averages={})
    _, out, _ = command("runs", tmp_path)
    assert out.splitlines()[-1] == "and 5 more notes (--json shows all)"
    assert len(out.splitlines()) == 1 + 15 + 1 + 10 + 1


def test_a_thousand_runs_are_listed(command, tmp_path):
    for number in range(1000):
        status = status_with(best_losses=losses(1 / (number + 1)))
        make_run(tmp_path, f"run-{number:04d}", status=status, averages={}, learning_rate=number % 7 / 10, seed=number)
    status, out, _ = command("runs", tmp_path, "--sort", "valid")
    assert status == 0
    rows = rows_of(out)
    assert len(rows) == 1001
    assert rows[1][0] == "run-0999"
    assert len(json.loads(command("runs", tmp_path, "--json")[1])) == 1000


FILES = [
    "status.json",
    "config.json",
    "epochs.jsonl",
    "votes.jsonl",
    "environment.json",
    "environment_x.json",
    "hooks.json",
]
FOREIGN = [
    b"{}",
    b"[]",
    b"{}\n",
    b'{"epoch": 1}\n',
    b'{"epoch": "1"}\n',
    b'{"epoch": 1, "reason": [1], "kept": true}\n',
    b'{"packages": 3, "devices": {"accelerators": 1}, "git": [], "command_line": 1, "config_changes": 1}',
    b'{"torch": {"version": [], "cuda": 1, "cudnn": []}}',
    b'{"packages": {"a": []}, "devices": {"cpu_count": {}}, "plugins": {"a": 1}, "session": {"file": 1}}',
    b'{"hooks": {}, "events": {"on_other": [{"hook": "a", "is_wrapper": true}]}}',
]


def check_that_no_command_fails(command, parent, name, content):
    folders = [make_run(parent, tag) for tag in ("one", "other")]
    (folders[0] / name).write_bytes(content)
    for words in (("runs", parent), ("runs", parent, "--json"), ("show", folders[0]), ("compare", *folders)):
        status, out, err = command(*words)
        assert status in (0, 1)
        assert out
        assert err == ""
    assert command("hooks", folders[0])[0] in (0, 2)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", FOREIGN)
def test_a_file_with_other_content_makes_no_command_fail(command, tmp_path, name, content):
    check_that_no_command_fails(command, tmp_path, name, content)


@pytest.mark.parametrize("name", [*FILES, "states/checkpoint-epoch-000001-iteration-0000000001"])
def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_are_reported(command, tmp_path, name):
    folder = make_run(tmp_path, "run")
    (folder / name).unlink(missing_ok=True)
    if name.startswith("states"):
        (folder / name).touch()
    else:
        (folder / name).mkdir()
    for words in (("runs", tmp_path), ("show", folder), ("compare", folder, folder)):
        status, out, err = command(*words)
        assert (status, err) in {(0, ""), (1, "")}
        assert "run" in out


def test_a_run_without_permission_to_read_is_reported(tmp_path):
    folder = make_run(tmp_path, "2026-11-22_14-03-55_host")
    folder.chmod(0)
    unprivileged = []
    if os.geteuid() == 0:  # root may read everything, unless it drops these capabilities
        unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    if unprivileged and shutil.which("setpriv") is None:
        pytest.skip("root may read everything")
    code = "import sys; from torchbase.command_line import main; sys.exit(main())"
    try:
        for words in (["runs", str(tmp_path)], ["show", str(folder)]):
            done = subprocess.run([*unprivileged, sys.executable, "-c", code, *words], capture_output=True, text=True)
            assert done.returncode == 1, done.stderr
            assert "2026-11-22_14-03-55_host" in done.stdout
            assert "Permission denied" in done.stdout
            assert done.stderr == ""
    finally:
        folder.chmod(0o755)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=st.sampled_from(FILES), content=st.binary(max_size=20))
def test_a_file_with_any_content_makes_no_command_fail(command, tmp_path_factory, name, content):
    check_that_no_command_fails(command, tmp_path_factory.mktemp("runs"), name, content)


def test_runs_of_a_number_of_iterations_have_a_column_of_them(command, tmp_path):
    limited = status_with(max_iterations=5000, iterations=1200, epochs_done=2, max_epochs=5000)
    make_run(tmp_path, "2026-01-01_00-00-00_host", status=limited)
    make_run(tmp_path, "2026-01-02_00-00-00_host", status=status_with(iterations=30))
    header, first, second, *_ = rows_of(command("runs", tmp_path)[1])
    assert header[:4] == ["run", "state", "iterations", "epochs"]
    assert first[1:4] == ["finished", "1200/5000", "2"]
    assert second[1:4] == ["finished", "30", "3/3"]
    found = {run["run"]: run["max_iterations"] for run in json.loads(command("runs", tmp_path, "--json")[1])}
    assert found == {"2026-01-01_00-00-00_host": 5000, "2026-01-02_00-00-00_host": None}
