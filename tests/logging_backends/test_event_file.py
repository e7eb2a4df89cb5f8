import logging
import os
import resource
from contextlib import contextmanager

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from torchbase.files import append_only
from torchbase.logging_backends.event_file import PATTERN, EventFile


def file_sizes(folder):
    return append_only.file_sizes(folder, PATTERN)


def truncate_files(folder, sizes):
    append_only.truncate_files(folder, PATTERN, sizes)


def scalars_in(folder):
    accumulator = EventAccumulator(str(folder)).Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def test_scalars_can_be_read_back(tmp_path):
    file = EventFile(tmp_path)
    file.add_scalars({"a": 1.0, "b": 2.0}, step=3)
    file.add_scalars({"a": float("nan")}, step=4)
    file.close()
    scalars = scalars_in(tmp_path)
    assert scalars["b"] == [(3, 2.0)]
    assert [step for step, _ in scalars["a"]] == [3, 4]


def test_a_reader_sees_flushed_records_while_the_file_is_open(tmp_path):
    file = EventFile(tmp_path)
    file.add_scalars({"a": 1.0}, step=1)
    assert scalars_in(tmp_path) == {}
    file.flush()
    assert scalars_in(tmp_path) == {"a": [(1, 1.0)]}
    file.close()


def test_files_are_read_in_the_order_in_which_they_were_created(tmp_path):
    for step in range(1, 4):
        file = EventFile(tmp_path)
        file.add_scalars({"a": float(step)}, step=step)
        file.close()
    assert len(list(tmp_path.iterdir())) == 3
    assert scalars_in(tmp_path) == {"a": [(1, 1.0), (2, 2.0), (3, 3.0)]}


@contextmanager
def no_file_longer_than(size):
    """Limits the size of files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_steps(folder, *steps):
    file = EventFile(folder)
    for step in steps:
        file.add_scalars({"a": float(step)}, step=step)
    file.close()


def test_sizes_count_flushed_records(tmp_path):
    assert file_sizes(tmp_path) == {}
    write_steps(tmp_path, 1, 2)
    ((name, size),) = file_sizes(tmp_path).items()
    assert size == (tmp_path / name).stat().st_size
    file = EventFile(tmp_path)
    before = file_sizes(tmp_path)
    assert before.keys() - {name}
    file.add_scalars({"a": 3.0}, step=3)
    assert file_sizes(tmp_path) == before
    file.flush()
    assert sum(file_sizes(tmp_path).values()) > sum(before.values())
    file.close()


def test_what_was_recorded_after_a_point_is_removed_and_recorded_again(tmp_path):
    write_steps(tmp_path, 1)
    file = EventFile(tmp_path)
    file.add_scalars({"a": 2.0}, step=2)
    file.flush()
    sizes = file_sizes(tmp_path)
    file.add_scalars({"a": 3.0}, step=3)
    file.close()
    write_steps(tmp_path, 4)
    assert [step for step, _ in scalars_in(tmp_path)["a"]] == [1, 2, 3, 4]
    truncate_files(tmp_path, sizes)
    assert file_sizes(tmp_path) == sizes
    assert scalars_in(tmp_path) == {"a": [(1, 1.0), (2, 2.0)]}
    write_steps(tmp_path, 3, 4)
    assert [step for step, _ in scalars_in(tmp_path)["a"]] == [1, 2, 3, 4]


def test_truncating_to_the_beginning_removes_all_files_except_the_users(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("users", 1.0, 1)
    users = {path: path.read_bytes() for path in tmp_path.iterdir()}
    write_steps(tmp_path, 1)
    assert len(file_sizes(tmp_path)) == 1
    truncate_files(tmp_path, {})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == users


def test_a_file_that_became_shorter_causes_a_warning(tmp_path, caplog):
    write_steps(tmp_path, 1, 2)
    ((name, size),) = file_sizes(tmp_path).items()
    os.truncate(tmp_path / name, size - 5)
    with caplog.at_level(logging.WARNING, "torchbase"):
        truncate_files(tmp_path, {name: size})
    assert f"{tmp_path / name} lost its last 5 bytes" in caplog.text
    assert file_sizes(tmp_path) == {name: size - 5}


def test_an_incomplete_event_is_removed(tmp_path):
    file = EventFile(tmp_path)
    file.add_scalars({"a": 1.0}, step=1)
    file.flush()
    ((name, size),) = file_sizes(tmp_path).items()
    file.add_scalars({"a": 2.0}, step=2)
    with no_file_longer_than(size + 7):
        with pytest.raises(OSError, match="File too large"):
            file.flush()
        assert file_sizes(tmp_path) == {name: size + 7}
        file.abandon()
    assert file_sizes(tmp_path) == {name: size}
    write_steps(tmp_path, 3)
    assert scalars_in(tmp_path) == {"a": [(1, 1.0), (3, 3.0)]}


def test_a_file_that_was_deleted_can_be_abandoned(tmp_path):
    file = EventFile(tmp_path)
    (path,) = tmp_path.iterdir()
    path.unlink()
    file.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_not_be_created_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            EventFile(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_later_file_of_the_same_second_has_a_later_name(tmp_path, monkeypatch):
    for process in (900, 100, 500):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        file = EventFile(tmp_path)
        file.add_scalars({"process": process}, step=1000 - process)
        file.close()
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in accumulator.Scalars("process")] == [900, 100, 500]
