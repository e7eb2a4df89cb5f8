import logging
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import make_run, status_with

from torchbase.checkpoints.listing import has_results
from torchbase.checkpoints.storage import write_checkpoint
from torchbase.errors import RunDirectoryError
from torchbase.run_directory.newest import newest_run, next_order
from torchbase.run_directory.record import read_status, write_status


def begin(parent, tag):
    """Makes the directory of a run that begins now."""
    return make_run(parent, tag, status=status_with(order=next_order(parent), tag=tag))


def newest(parent):
    return newest_run(parent, has_results)


@settings(max_examples=20, deadline=None)
@given(
    tags=st.lists(st.text("abz0129_-", min_size=1, max_size=4), min_size=1, max_size=5, unique=True),
    clock=st.lists(st.integers(0, 3), min_size=5, max_size=5),
)
def test_the_newest_run_was_begun_last_whatever_its_name_and_the_clock(tmp_path_factory, tags, clock):
    parent = tmp_path_factory.mktemp("runs")
    for tag, microseconds in zip(tags, clock, strict=False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.time_ns", lambda now=microseconds: 1000 * now)
            begin(parent, tag)
        assert newest(parent) == tag


def test_a_copy_is_newer_than_its_original_once_it_was_resumed(tmp_path):
    for tag in ("m", "n"):
        begin(tmp_path, tag)
    for copy in ("a", "z"):
        shutil.copytree(tmp_path / "n", tmp_path / copy)
    assert newest(tmp_path) == "n"
    status = vars(read_status(tmp_path / "a"))
    write_status(tmp_path / "a", status_with(**{**status, "resumed_at": "2026-11-23T14:03:55+01:00", "tag": "a"}))
    assert newest(tmp_path) == "a"
    begin(tmp_path, "b")
    assert newest(tmp_path) == "b"


def test_a_renamed_run_stays_the_newest(tmp_path):
    for tag in ("m", "n"):
        begin(tmp_path, tag)
    (tmp_path / "n").rename(tmp_path / "a")
    assert newest(tmp_path) == "a"


def test_what_was_never_begun_is_passed_over_unless_there_is_nothing_else(tmp_path, caplog):
    make_run(tmp_path, "y", status=None)
    make_run(tmp_path, "z", status=None)
    assert newest(tmp_path) == "z"
    begin(tmp_path, "a")
    (tmp_path / "zz").mkdir()  # a run that ended before its config was saved
    (tmp_path / "notes.txt").touch()
    assert newest(tmp_path) == "a"
    assert caplog.text == ""


@pytest.mark.parametrize("damaged", [False, True])
def test_a_run_whose_age_is_not_known_is_named(tmp_path, caplog, damaged):
    unknown = make_run(tmp_path, "z", status=None)
    if damaged:
        (unknown / "status.json").write_text("{")
    else:
        write_checkpoint(unknown / "states", 1, 5, {})
    make_run(tmp_path, "zz", status=None)  # never begun
    assert newest(tmp_path) == "z"
    begin(tmp_path, "a")
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert newest(tmp_path) == "a"
    assert "they have no status.json that can be read: z. a is the newest of the others" in caplog.text


@pytest.mark.parametrize("folder", ["missing", "."])
def test_without_any_run_there_is_no_newest(tmp_path, folder):
    (tmp_path / "2026-11-10_10-00-00_host").mkdir()
    with pytest.raises(RunDirectoryError, match=r"no run to resume in .*no folder in it holds a config\.json"):
        newest(tmp_path / folder)
