"""Needs Weights & Biases: nox -s backends installs it."""

import time
from pathlib import Path

import pytest

from torchbase.logging_backends.wandb_file import WandbFile

wandb = pytest.importorskip("wandb")
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}") for name in ("DeprecationWarning", "ResourceWarning")]


def finish(run):
    """Ends a run, and waits for W&B's own process, which may still be writing."""
    run.finish()
    path, deadline = Path(run.settings.sync_file), time.monotonic() + 60
    file = WandbFile(path)
    while not file.has_ended and time.monotonic() < deadline:
        list(file.new_rows())
    assert file.has_ended
    return path


def test_each_row_is_read_once_while_the_file_grows_over_many_blocks(tmp_path):
    settings = wandb.Settings(silent=True, console="off", x_transaction_log_flush_interval=0.05)
    run = wandb.init(mode="offline", dir=str(tmp_path), reinit="create_new", settings=settings)
    file, rows = WandbFile(Path(run.settings.sync_file)), []
    for number in range(300):
        run.log({"value": number / 3, "a/b": "x" * (number % 7) * 500}, step=number, commit=True)
        if number % 50 == 0:
            deadline = time.monotonic() + 60
            while (not rows or rows[-1]["_step"] < number) and time.monotonic() < deadline:
                rows += file.new_rows()
            assert rows[-1]["_step"] == number
    finish(run)
    rows += file.new_rows()
    assert Path(run.settings.sync_file).stat().st_size > 10 * 2**15
    assert [row["value"] for row in rows] == [number / 3 for number in range(300)]
    assert [len(row["a/b"]) for row in rows] == [number % 7 * 500 for number in range(300)]
    assert list(file.new_rows()) == []


def test_a_missing_file_has_no_rows(tmp_path):
    assert list(WandbFile(tmp_path / "run-x.wandb").new_rows()) == []


def test_complete_rows_of_a_truncated_file_are_read(tmp_path):
    run = wandb.init(
        mode="offline", dir=str(tmp_path), reinit="create_new", settings=wandb.Settings(silent=True, console="off")
    )
    for number in range(100):
        run.log({"value": number}, step=number, commit=True)
    path = finish(run)
    content = path.read_bytes()
    for size in (0, 5, 8, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:size])
        rows = [row["value"] for row in WandbFile(path).new_rows()]
        assert rows == list(range(len(rows)))
