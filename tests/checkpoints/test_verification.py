import hashlib
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, TinySession, config_with, make_dataset

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.verification import verify_run
from torchbase.errors import CheckpointError, RunDirectoryError


def checksums_of(folder):
    """The checksum of every file by path."""
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def newest(session):
    return list_checkpoints(Path(session.run_dir) / "states")[0]


def flip_a_bit(file, position):
    content = bytearray(file.read_bytes())
    content[position] ^= 16
    file.write_bytes(content)


def test_a_whole_run_is_verified_and_unchanged(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session()
    before = checksums_of(tmp_path)
    found = session.verify()
    assert found.is_good
    assert [one.name for one in found.findings] == [
        "states/checkpoint-epoch-000002-iteration-0000000010",
        "states/checkpoint-epoch-000001-iteration-0000000005",
        "network.pth",
    ]
    assert str(found).splitlines()[1:] == [f"{one.name}: whole" for one in found.findings]
    assert checksums_of(tmp_path) == before


def test_a_damaged_checkpoint_and_a_damaged_network_are_reported(tmp_path):
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


def test_a_new_run_cannot_start_from_a_damaged_network(tmp_path):
    source = TinySession(CONFIG, tmp_path)
    source()
    flip_a_bit(Path(source.run_dir, "network.pth"), 1000)
    with pytest.raises(RunDirectoryError, match=r"network\.pth is damaged"):
        TinySession(CONFIG, tmp_path, source_run_dir_tag=Path(source.run_dir).name)()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_replay_agrees_and_changes_nothing(tmp_path, workers):
    session = TinySession(config_with(dataloader_num_workers=workers), tmp_path)
    session()
    before = checksums_of(tmp_path)
    weights = {name: value.clone() for name, value in session.network.state_dict().items()}
    found = session.verify(replay=7)
    assert found.is_good
    assert found.replay.differences == ()
    assert "replayed 7 iterations from checkpoint-epoch-000002-iteration-0000000010 twice: they agree" in str(found)
    assert checksums_of(tmp_path) == before
    assert all(torch.equal(value, weights[name]) for name, value in session.network.state_dict().items())


class Unrepeatable(TinySession):
    """A session that draws from a generator outside the checkpoint, so no two replays are equal."""

    def __init__(self, config, parent, generator):
        super().__init__(config, parent)
        self.generator = generator

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        return {**outputs, "output": outputs["output"] + torch.randn((), generator=self.generator)}


def test_a_replay_names_the_values_that_differ(tmp_path):
    session = Unrepeatable(CONFIG, tmp_path, torch.Generator().manual_seed(1))
    session()
    found = session.verify(replay=2)
    assert not found.is_good
    assert "network.layers.0.weight" in found.replay.differences
    assert "  network.layers.0.weight" in str(found).splitlines()
    assert not any(one.startswith("run.random") for one in found.replay.differences)


def test_the_older_checkpoint_is_replayed_if_the_newest_is_damaged(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session()
    flip_a_bit(newest(session) / "training.pth", 300)
    found = session.verify(replay=1)
    assert found.replay.checkpoint == "checkpoint-epoch-000001-iteration-0000000005"
    assert found.replay.differences == ()


def test_a_replay_needs_a_whole_checkpoint(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    assert "no checkpoint yet" in str(session.verify())
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        session.verify(replay=1)
    with pytest.raises(ValueError, match="replay=0"):
        session.verify(replay=0)


def test_another_folder_than_a_run_directory_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match="isn't the directory of a run"):
        verify_run(tmp_path)


def test_a_replay_reads_the_data_of_the_session(tmp_path):
    class WithData(TinySession):
        def __init__(self, config, rows):
            super().__init__(config, tmp_path)
            self.rows = rows

        def init_datasets(self):
            return make_dataset(self.rows), super().init_datasets()[1]

    session = WithData(CONFIG, 30)
    session()
    assert session.verify(replay=9).is_good
