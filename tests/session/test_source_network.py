import shutil
from pathlib import Path

import pytest
import several
from divided import in_suite
from tiny import TinySession, config_with

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.errors import CheckpointError
from torchbase.files.bitwise import different_values
from torchbase.testing.instruments import KillAt
from torchbase.testing.outcomes import collect_on_disk

SOURCE = config_with(num_epochs=3, seed=5)
CONFIG = config_with(num_epochs=2, mini_batch_parts=2, drop_last=True)


def train_source(parent):
    """Trains a run to start from, and returns its tag."""
    session = TinySession(SOURCE, parent)
    session()
    return Path(session.run_dir).name


def train(index, parent, tag, which, config=CONFIG, killed_at=None):
    session = TinySession(config, parent, source_run_dir_tag=tag, source_network=which, tag_postfix="new")
    if killed_at is not None:
        session.register(KillAt(killed_at))
    session()


def resume(index, parent):
    TinySession.resume(parent, new_run_in(parent).name)()


def new_run_in(parent):
    (path,) = parent.glob("*_new")
    return path


def outcome_in(parent):
    run = new_run_in(parent)
    parts = newest_whole_checkpoint(run / "states").parts
    return {"network": parts["network"], "optimizer": parts["training"]["optimizer"], **collect_on_disk(run)}


@pytest.fixture
def killed(tmp_path):
    """A folder with a run that was killed before its first checkpoint, and the run that it started from."""
    tag = train_source(tmp_path)
    (one,) = several.run(1, train, tmp_path, tag, "best", CONFIG, 1)
    assert one.exit_code == -9, one.error
    assert list_checkpoints(new_run_in(tmp_path) / "states") == []
    return tmp_path, tmp_path / tag


@pytest.mark.parametrize("which", in_suite(["best", "last"], "last"))
@pytest.mark.parametrize("processes", in_suite([1, 2], 1))
@pytest.mark.parametrize("is_sharded", in_suite([False, True], False))
def test_a_run_that_is_killed_before_its_first_checkpoint_begins_with_the_same_network_again(
    tmp_path, which, processes, is_sharded
):
    config = config_with(
        num_epochs=2, mini_batch_parts=2, drop_last=True, **({"distributed": "shard"} if is_sharded else {})
    )
    tag = train_source(tmp_path)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        shutil.copytree(tmp_path / tag, tmp_path / name / tag)
    several.values_of(processes, train, tmp_path / "whole", tag, which, config)
    ended = several.run(processes, train, tmp_path / "killed", tag, which, config, 1)
    assert any(one.exit_code == -9 for one in ended), ended
    several.values_of(processes, resume, tmp_path / "killed")
    assert different_values(outcome_in(tmp_path / "whole"), outcome_in(tmp_path / "killed")) == []


def test_a_source_run_that_has_saved_another_network_since_is_refused(killed):
    parent, source = killed
    longer = config_with(num_epochs=9, seed=5)
    TinySession(longer, parent, create_run_dir_afresh=False, source_run_dir_tag=source.name)()
    with pytest.raises(CheckpointError, match=f"network of {source}, which has saved another network since"):
        resume(0, parent)


def test_a_source_run_that_is_gone_is_refused(killed):
    parent, source = killed
    shutil.rmtree(source)
    with pytest.raises(CheckpointError, match=r"which isn't there any more, .* To fix, begin a new run"):
        resume(0, parent)


def test_a_run_with_a_checkpoint_needs_its_source_no_more(tmp_path):
    tag = train_source(tmp_path)
    train(0, tmp_path, tag, "best")
    shutil.rmtree(tmp_path / tag)
    resume(0, tmp_path)


def test_a_session_that_is_closed_before_its_call_leaves_no_note(tmp_path):
    tag = train_source(tmp_path)
    with TinySession(CONFIG, tmp_path, source_run_dir_tag=tag) as session:
        assert Path(session.run_dir, "source.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == [tag]
    session()
    assert Path(session.run_dir, "source.json").exists()
