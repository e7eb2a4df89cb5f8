import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.errors import RunDirectoryError
from torchbase.listeners import HookOrder, Listener
from torchbase.run_directory import record
from torchbase.run_directory.record import (
    Best,
    Epoch,
    Status,
    append_epoch,
    read_epochs,
    read_hooks,
    read_status,
    truncate_epochs,
    write_hooks,
    write_status,
)

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
    state=st.sampled_from(record.STATES),
    reason=st.none() | st.text(),
    losses=st.dictionaries(st.text(), st.tuples(st.floats(), st.integers(1, 99)), max_size=3),
)
def test_a_status_is_read_back_as_it_was_written(tmp_path_factory, state, reason, losses):
    folder = tmp_path_factory.mktemp("run")
    status = Status(**{**vars(STATUS), "state": state, "reason": reason})
    status = Status(**{**vars(status), "best_losses": {name: Best(*best) for name, best in losses.items()}})
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


@pytest.mark.parametrize(("key", "value"), [("state", "resting"), ("epochs_done", "many"), ("best_losses", [1])])
def test_a_status_with_an_invalid_value_is_damaged(tmp_path, key, value):
    write_status(tmp_path, STATUS)
    saved = json.loads((tmp_path / "status.json").read_bytes())
    (tmp_path / "status.json").write_text(json.dumps({**saved, key: value}))
    with pytest.raises(RunDirectoryError, match=r"status\.json isn't what torchbase writes there"):
        read_status(tmp_path)


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
