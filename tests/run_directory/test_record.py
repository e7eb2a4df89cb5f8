import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.errors import RunDirectoryError
from torchbase.listeners import HookOrder, Listener
from torchbase.run_directory.record import (
    Epoch,
    append_epoch,
    read_epochs,
    read_hooks,
    read_status,
    truncate_epochs,
    write_hooks,
    write_status,
)
from torchbase.run_directory.status import DIRECTIONS, STATES, Best, Status
from torchbase.run_directory.value_ranges import extend

STATUS = Status(
    state="failed",
    reason="KeyError: 'x'",
    epochs_done=3,
    max_epochs=12,
    iterations=57,
    best_losses={"validation-valid": Best(0.25, 2)},
    started_at="2026-11-22T14:03:55+01:00",
    resumed_at=None,
    updated_at="2026-11-22T14:13:55+01:00",
    process_id=1234,
    host="host",
)


def are_equal(first, second):
    return repr(first) == repr(second)  # NaN included


@settings(max_examples=30)
@given(
    state=st.sampled_from(STATES),
    reason=st.none() | st.text(),
    losses=st.dictionaries(st.text(), st.tuples(st.floats(), st.integers(1, 99)), max_size=3),
    seconds=st.none() | st.floats(0, 1e9),
    values=st.none() | st.dictionaries(st.text(), st.dictionaries(st.text(), st.floats(), max_size=2), max_size=2),
    directions=st.dictionaries(st.text(), st.sampled_from(DIRECTIONS), max_size=2),
)
def test_a_status_is_read_back_as_it_was_written(tmp_path_factory, state, reason, losses, seconds, values, directions):
    folder = tmp_path_factory.mktemp("run")
    epochs = None if values is None else [Epoch(1, phase, 1, averages) for phase, averages in values.items()]
    changes = {
        "state": state,
        "reason": reason,
        "best_losses": {name: Best(*best) for name, best in losses.items()},
        "seconds": seconds,
        "epoch_seconds": seconds,
        "values": None if epochs is None else extend({}, epochs),
        "directions": directions,
    }
    status = Status(**{**vars(STATUS), **changes})
    write_status(folder, status)
    assert are_equal(read_status(folder), status)
    json.loads((folder / "status.json").read_bytes(), parse_constant=pytest.fail)  # NaN isn't JSON


def test_missing_files_are_read_as_none_or_empty(tmp_path):
    assert read_status(tmp_path) is None
    assert read_hooks(tmp_path) is None
    assert read_epochs(tmp_path) == ([], 0)


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"3", b'{"state": "running"}', b'{"format_version": 2}', b"\xff", b"[" * 100_000],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, content):
    for name, read in (("status.json", read_status), ("hooks.json", read_hooks)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RunDirectoryError, match=name):
            read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("state", "resting"),
        ("epochs_done", "many"),
        ("best_losses", [1]),
        ("seconds", "long"),
        ("values", {"training": {"loss": 1.0}}),
        ("directions", {"loss": "down"}),
    ],
)
def test_a_status_with_an_invalid_value_is_damaged(tmp_path, key, value):
    write_status(tmp_path, STATUS)
    saved = json.loads((tmp_path / "status.json").read_bytes())
    (tmp_path / "status.json").write_text(json.dumps({**saved, key: value}))
    with pytest.raises(RunDirectoryError, match=r"status\.json isn't what torchbase writes there"):
        read_status(tmp_path)


def test_a_status_without_the_newer_entries_is_read(tmp_path):
    write_status(tmp_path, STATUS)
    saved = json.loads((tmp_path / "status.json").read_bytes())
    newer = ("order", "tag", "max_iterations", "seconds", "epoch_seconds", "values", "directions")
    older = {name: value for name, value in saved.items() if name not in newer}
    (tmp_path / "status.json").write_text(json.dumps(older))
    assert read_status(tmp_path) == STATUS


def test_each_entry_of_a_status_is_a_line(tmp_path):
    write_status(tmp_path, STATUS)
    lines = (tmp_path / "status.json").read_text().splitlines()
    assert lines[0] + lines[-1] == "{}"
    assert len(lines) == len(json.loads("".join(lines))) + 2


def test_a_folder_in_the_place_of_a_file_is_an_error(tmp_path):
    (tmp_path / "status.json").mkdir()
    with pytest.raises(RunDirectoryError, match="Is a directory"):
        read_status(tmp_path)


EPOCHS = [
    Epoch(epoch, phase, 5 * epoch, {"loss": 1 / epoch, "worst": math.inf})
    for epoch in (1, 2)
    for phase in ("training", "validation-a", "validation-b")
]


@pytest.mark.parametrize("count", [0, 1, 5, 6])
def test_averages_are_truncated_with_an_incomplete_line(tmp_path, count):
    for epoch in EPOCHS:
        append_epoch(tmp_path, epoch)
    assert read_epochs(tmp_path) == (EPOCHS, 0)
    with (tmp_path / "epochs.jsonl").open("a") as lines:
        lines.write('{"epoch": 3, "pha')  # as a killed process leaves it
    truncate_epochs(tmp_path, count)
    assert read_epochs(tmp_path) == (EPOCHS[:count], 0)


def test_damaged_lines_of_averages_are_counted(tmp_path):
    append_epoch(tmp_path, EPOCHS[0])
    with (tmp_path / "epochs.jsonl").open("a") as lines:
        lines.write('{"epoch": 1}\n{"epoch": 1, "phase": "a", "iterations": 1, "averages": {"loss": []}}\nnothing\n')
    assert read_epochs(tmp_path) == ([EPOCHS[0]], 3)


def test_hooks_are_read_back_in_their_order(tmp_path):
    order = HookOrder(
        {"b": "package.B", "a": "package.A"},
        {"on_run_start": (Listener("b", False), Listener("a", False)), "run_phase": (Listener("a", True),)},
    )
    write_hooks(tmp_path, order)
    read = read_hooks(tmp_path)
    assert read == order
    assert list(read.classes) == ["b", "a"]
