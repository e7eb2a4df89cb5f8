"""The checkpoints of a real run, each file damaged at 200 places: the damage is always noticed, and never loaded."""

import logging
import random
import shutil
from pathlib import Path

import pytest
from tiny import TinySession, config_with

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.storage import check_checkpoint, newest_whole_checkpoint
from torchbase.errors import CheckpointError

PLACES = 200
FILES = ["manifest.json", "network.pth", "training.pth"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    session = TinySession(config_with(checkpoint_every_n_iterations=2), tmp_path_factory.mktemp("runs"))
    session()
    return Path(session.run_dir)


@pytest.fixture
def newest(run_dir, tmp_path):
    """The newest of two checkpoints, in a copy of the states."""
    shutil.copytree(run_dir / "states", tmp_path / "states")
    newest, _ = list_checkpoints(tmp_path / "states")
    assert sorted(path.name for path in newest.iterdir()) == FILES
    return newest


def flip_bit(content, draw):
    position = draw.randrange(len(content))
    return content[:position] + bytes([content[position] ^ (1 << draw.randrange(8))]) + content[position + 1 :]


def truncate(content, draw):
    return content[: draw.randrange(len(content))]


@pytest.mark.parametrize("damage", [flip_bit, truncate])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_noticed_wherever_it_is(newest, name, damage):
    file, draw = newest / name, random.Random(f"{name} {damage.__name__}")
    content = file.read_bytes()
    for _ in range(PLACES):
        file.write_bytes(damage(content, draw))
        with pytest.raises(CheckpointError, match=name):
            check_checkpoint(newest)
    file.write_bytes(content)
    check_checkpoint(newest)


@pytest.mark.parametrize("name", FILES)
def test_the_checkpoint_before_a_damaged_one_is_used_and_the_damage_is_named(newest, name, caplog):
    (newest / name).write_bytes(flip_bit((newest / name).read_bytes(), random.Random(name)))
    with caplog.at_level(logging.WARNING, "torchbase"):
        saved = newest_whole_checkpoint(newest.parent)
    assert saved.path == list_checkpoints(newest.parent)[1]
    assert newest.name in caplog.text
    assert name in caplog.text


def test_a_run_with_a_damaged_newest_checkpoint_resumes_from_the_one_before(run_dir, tmp_path):
    copy = tmp_path / run_dir.name
    shutil.copytree(run_dir, copy)
    newest, before = list_checkpoints(copy / "states")
    (newest / "training.pth").write_bytes(b"")
    resumed = TinySession.resume(tmp_path)
    resumed()
    assert (copy / "states" / newest.name / "training.pth").stat().st_size > 0
    assert resumed.verify().is_good
    assert before.exists()
