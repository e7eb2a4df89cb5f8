import hashlib
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, TinySession, config_with, make_dataset

from torchbase.checkpoints.storage import list_checkpoints
from torchbase.checkpoints.verification import verify_run
from torchbase.errors import CheckpointError, RunDirectoryError


def content_of(folder):
    """The checksum of every file by its path."""
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def newest(session):
    return list_checkpoints(Path(session.run_dir) / "states")[0]


def flip_a_bit(file, position):
    content = bytearray(file.read_bytes())
    content[position] ^= 16
    file.write_bytes(content)


def test_a_whole_run_is_found_whole_and_nothing_is_changed(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session()
    before = content_of(tmp_path)
    found = session.verify()
    assert found.is_good
    assert [one.name for one in found.findings] == [
        "states/checkpoint-epoch-000002-iteration-0000000010",
        "states/checkpoint-epoch-000001-iteration-0000000005",
        "network.pth",
    ]
    assert str(found).splitlines()[1:] == [f"{one.name}: whole" for one in found.findings]
    assert content_of(tmp_path) == before


def test_a_damaged_checkpoint_and_a_damaged_network_are_named_with_what_is_wrong(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session()
    flip_a_bit(newest(session) / "training.pth", 700)
    best = Path(session.run_dir, "network.pth")
    values = torch.load(best, weights_only=True)["layers.0.weight"].numpy().tobytes()
    flip_a_bit(best, best.read_bytes().index(values))
    checkpoint, older, network = session.verify().findings
    assert "training.pth was changed" in checkpoint.problem
    assert older.problem is None
    assert "the content of" in network.problem
    assert not session.verify().is_good


def test_a_network_that_is_damaged_is_no_source_of_a_new_run(tmp_path):
    source = TinySession(CONFIG, tmp_path)
    source()
    flip_a_bit(Path(source.run_dir, "network.pth"), 1000)
    with pytest.raises(RunDirectoryError, match=r"network\.pth is damaged"):
        TinySession(CONFIG, tmp_path, source_run_dir_tag=Path(source.run_dir).name)()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_replay_agrees_and_changes_nothing(tmp_path, workers):
    session = TinySession(config_with(dataloader_num_workers=workers), tmp_path)
    session()
    before = content_of(tmp_path)
    weights = {name: value.clone() for name, value in session.network.state_dict().items()}
    found = session.verify(replay=7)
    assert found.is_good
    assert found.replay.differences == ()
    assert "replayed 7 iterations from checkpoint-epoch-000002-iteration-0000000010 twice: they agree" in str(found)
    assert content_of(tmp_path) == before
    assert all(torch.equal(value, weights[name]) for name, value in session.network.state_dict().items())


class Forgetful(TinySession):
    """Draws from a generator that no checkpoint knows, so that no two replays are the same."""

    def __init__(self, config, parent, generator):
        super().__init__(config, parent)
        self.generator = generator

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        return {**outputs, "output": outputs["output"] + torch.randn((), generator=self.generator)}


def test_a_replay_that_differs_names_what_does(tmp_path):
    session = Forgetful(CONFIG, tmp_path, torch.Generator().manual_seed(1))
    session()
    found = session.verify(replay=2)
    assert not found.is_good
    assert "network.layers.0.weight" in found.replay.differences
    assert "  network.layers.0.weight" in str(found).splitlines()
    assert not any(one.startswith("run.random") for one in found.replay.differences)


def test_the_older_checkpoint_is_replayed_where_the_newest_is_damaged(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session()
    flip_a_bit(newest(session) / "training.pth", 300)
    found = session.verify(replay=1)
    assert found.replay.checkpoint == "checkpoint-epoch-000001-iteration-0000000005"
    assert found.replay.differences == ()


def test_without_a_whole_checkpoint_there_is_nothing_to_replay(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    assert "no checkpoint yet" in str(session.verify())
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        session.verify(replay=1)
    with pytest.raises(ValueError, match="replay=0"):
        session.verify(replay=0)


def test_what_is_no_run_directory_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match="isn't the directory of a run"):
        verify_run(tmp_path)


def test_a_replay_reads_the_data_that_the_session_has(tmp_path):
    class WithData(TinySession):
        def __init__(self, config, rows):
            super().__init__(config, tmp_path)
            self.rows = rows

        def init_datasets(self):
            return make_dataset(self.rows), super().init_datasets()[1]

    session = WithData(CONFIG, 30)
    session()
    assert session.verify(replay=9).is_good
