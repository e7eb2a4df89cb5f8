"""Checkpoints that several processes write and read together, here as threads that take turns."""

import logging
import shutil
from pathlib import Path

import in_turns
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.manifest import read_manifest, record_of
from torchbase.checkpoints.saved_tensors import Piece, in_memory
from torchbase.checkpoints.shards import shard_file
from torchbase.checkpoints.storage import check_checkpoint, newest_whole_checkpoint, open_checkpoint, read_checkpoint
from torchbase.checkpoints.storage import write_checkpoint as write_alone
from torchbase.checkpoints.together import Share, newest_together, write_together
from torchbase.errors import CheckpointError, RunDirectoryError
from torchbase.files import durable
from torchbase.files.bitwise import different_values

SHAPES = {"many rows": (7, 3), "one row": (1, 4), "no row": (0, 2), "deep": (5, 2, 3), "flat": (6,)}
DTYPES = {"many rows": torch.bfloat16, "deep": torch.complex64, "flat": torch.int64}


def state_of(iteration):
    """A state with sharded tensors of all kinds, the same for an iteration."""
    generator = torch.Generator().manual_seed(iteration)
    sharded = {
        name: torch.randn(shape, generator=generator).mul(9).to(DTYPES.get(name, torch.float32))
        for name, shape in SHAPES.items()
    }
    return {
        "network": {**sharded, "buffer": torch.tensor(iteration)},
        "training": {"optimizer": {"state": {0: {"exp_avg": sharded["deep"] * 2, "step": torch.tensor(3.0)}}}},
    }


def share_of(state, index, count):
    paths = [*(("network", name) for name in SHAPES), ("training", "optimizer", "state", 0, "exp_avg")]
    pieces = {}
    for path in paths:
        tensor = state[path[0]]
        for key in path[1:]:
            tensor = tensor[key]
        size = -(-len(tensor) // count)
        first = min(index * size, len(tensor))
        pieces[path] = Piece(tensor[first : first + size], first, tuple(tensor.shape))
    network = {**dict.fromkeys(SHAPES), "buffer": state["network"]["buffer"]}
    optimizer = {"state": {0: {"exp_avg": None, "step": state["training"]["optimizer"]["state"][0]["step"]}}}
    return Share({"network": network, "training": {"optimizer": optimizer}}, pieces)


def write(folder, iteration, count=2, change=None):
    """Writes the checkpoint of an iteration by several processes, and returns what each returned or raised."""

    def of_process(processes):
        share = share_of(state_of(iteration), processes.index, processes.count)
        share = share if change is None else change(processes.index, share)
        try:
            return write_together(processes, folder, 1, iteration, share)
        except Exception as error:
            return error

    return in_turns.values_of(count, of_process)


def read(folder, count):
    """What each of several processes reads: the name of the checkpoint, and the parts with whole tensors."""

    def of_process(processes):
        saved = newest_together(processes, folder if processes.is_main else None, is_opened=True)
        return None if saved is None else (saved.path.name, in_memory(saved.parts))

    return in_turns.values_of(count, of_process)


@pytest.mark.parametrize("writers", [1, 2, 4])
@pytest.mark.parametrize("readers", [1, 2, 3, 4])
def test_any_number_of_processes_reads_what_any_number_has_written(tmp_path, writers, readers):
    (path, *others) = write(tmp_path, 5, writers)
    assert others == [path] * (writers - 1)
    for name, parts in read(tmp_path, readers):
        assert name == path.name
        assert different_values(parts, state_of(5)) == []


def test_a_checkpoint_has_a_file_for_each_process_and_the_parts_once(tmp_path):
    path = write(tmp_path, 5, 3)[0]
    assert sorted(file.name for file in path.iterdir()) == [
        "manifest.json",
        "network.pth",
        "shards-00000-of-00003.pth",
        "shards-00001-of-00003.pth",
        "shards-00002-of-00003.pth",
        "training.pth",
    ]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_plain_functions_read_it_with_whole_tensors(tmp_path):
    path = write(tmp_path, 5, 3)[0]
    for saved in (read_checkpoint(path), newest_whole_checkpoint(tmp_path)):
        assert (saved.epoch, saved.iteration) == (1, 5)
        assert different_values(saved.parts, state_of(5)) == []


def test_a_checkpoint_of_one_process_is_opened_like_any_other(tmp_path):
    path = write_alone(tmp_path, 1, 5, state_of(5))
    opened = open_checkpoint(path)
    assert opened.parts["network"]["deep"].rows(1, 3).tolist() == state_of(5)["network"]["deep"][1:3].tolist()
    assert not opened.parts["network"]["deep"].is_sharded
    assert different_values(in_memory(opened.parts), state_of(5)) == []
    assert read(tmp_path, 2)[1][0] == path.name


def damage_byte(path, file):
    content = bytearray((path / file).read_bytes())
    content[len(content) // 2] ^= 1
    (path / file).write_bytes(content)


def cut(path, file):
    content = (path / file).read_bytes()
    (path / file).write_bytes(content[:-1])


def exchange(path, file):
    """Puts the file of the other checkpoint in place, which has the same size."""
    other = next(one for one in list_checkpoints(path.parent) if one != path)
    assert (other / file).stat().st_size == (path / file).stat().st_size
    shutil.copy(other / file, path / file)


DAMAGES = {
    "a flipped byte": damage_byte,
    "a cut tail": cut,
    "a missing file": lambda path, file: (path / file).unlink(),
    "a file of another iteration": exchange,
    "an additional file": lambda path, file: shutil.copy(path / file, path / f"more-{file}"),
    "an empty file": lambda path, file: (path / file).write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("readers", [1, 2, 3])
@pytest.mark.parametrize("file", [shard_file(0, 2), shard_file(1, 2), "network.pth", "training.pth", "manifest.json"])
def test_a_damage_is_noticed_by_all_and_named_and_the_checkpoint_before_is_taken(
    tmp_path, caplog, damage, readers, file
):
    before, newest = write(tmp_path, 5)[0], write(tmp_path, 6)[0]
    if (file, damage) in {("manifest.json", "a file of another iteration"), ("training.pth", damage)}:
        (newest / file).write_bytes((newest / file).read_bytes() + b" ")
    else:
        DAMAGES[damage](newest, file)
    with caplog.at_level(logging.WARNING, "torchbase"):
        found = read(tmp_path, readers)
    assert [name for name, _ in found] == [before.name] * readers
    assert different_values(found[-1][1], state_of(5)) == []
    assert len(caplog.records) == readers
    assert all(f"Skipping the checkpoint {newest.name}" in one.getMessage() for one in caplog.records)
    assert all(file in one.getMessage() for one in caplog.records)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_byte_anywhere_is_noticed_and_its_file_named(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("states"), 5)[0]
    file = data.draw(st.sampled_from(sorted(path.iterdir())))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=file.name):
        check_checkpoint(path)


def test_if_no_checkpoint_is_whole_each_process_has_the_error(tmp_path):
    damage_byte(write(tmp_path, 5)[0], shard_file(1, 2))

    def of_process(processes):
        with pytest.raises(CheckpointError, match=r"(?s)No checkpoint.*shards-00001-of-00002\.pth was changed"):
            newest_together(processes, tmp_path if processes.is_main else None, is_opened=True)

    in_turns.values_of(2, of_process)


def test_without_a_folder_or_checkpoints_there_is_none(tmp_path):
    assert read(tmp_path, 2) == [None, None]
    assert in_turns.values_of(2, lambda one: newest_together(one, None, is_opened=False)) == [None, None]


def test_each_process_checks_some_of_the_files_and_together_they_check_all(tmp_path):
    path = write(tmp_path, 5, 3)[0]
    found = []
    for file in sorted(one.name for one in path.iterdir() if one.name != "manifest.json"):
        content = (path / file).read_bytes()
        damage_byte(path, file)
        noticed = []
        for reader in range(3):
            try:
                check_checkpoint(path, reader, 3)
            except CheckpointError:
                noticed.append(reader)
        found.append(noticed)
        (path / file).write_bytes(content)
    assert sorted(found) == [[0], [0], [1], [1], [2]]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_process_is_an_error_of_all_and_the_checkpoint_before_stays(tmp_path, failing):
    before = write(tmp_path, 5)[0]

    def spoil(index, share):
        if index != failing:
            return share
        return Share(share.parts, {("network", "x"): Piece(torch.zeros(1).requires_grad_() * 1, 0, (object(),))})

    errors = write(tmp_path, 6, change=spoil)
    assert all(isinstance(one, RunDirectoryError) for one in errors)
    name = shard_file(failing, 2)
    assert all(name in str(one) for one in errors)
    assert f"process {failing}: " in str(errors[1 - failing])
    assert list(tmp_path.iterdir()) == [before]
    assert [name for name, _ in read(tmp_path, 2)] == [before.name] * 2


def test_an_error_of_the_disk_is_raised_on_all(tmp_path, monkeypatch):
    before = write(tmp_path, 5)[0]

    def fail(temporary, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "put_in_place", fail)
    errors = write(tmp_path, 6)
    assert [one.errno for one in errors] == [28, 28]
    assert all("No space left on device" in str(one) for one in errors)
    assert list(tmp_path.iterdir()) == [before]


def test_processes_that_hold_different_tensors_are_named(tmp_path):
    def drop(index, share):
        pieces = {path: one for path, one in share.pieces.items() if index == 0 or path != ("network", "deep")}
        return Share(share.parts, pieces)

    for error in write(tmp_path, 6, change=drop):
        assert isinstance(error, RunDirectoryError)
        assert "process 1 holds rows of other tensors than process 0" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_checkpoint_of_the_same_progress_stays_and_a_damaged_one_is_replaced(tmp_path):
    path = write(tmp_path, 5, 2)[0]
    assert write(tmp_path, 5, 4)[0] == path
    assert (path / shard_file(1, 2)).exists()
    damage_byte(path, shard_file(1, 2))
    assert write(tmp_path, 5, 4)[0] == path
    assert (path / shard_file(3, 4)).exists()
    assert different_values(read(tmp_path, 2)[1][1], state_of(5)) == []


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path):
    temporary = durable.make_temporary_folder(tmp_path / "checkpoint-epoch-000001-iteration-0000000006")
    (temporary / shard_file(0, 2)).touch()
    assert list_checkpoints(tmp_path) == []
    durable.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


class MakesFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("content", ["a pickle that runs code", {("network", "deep"): 3}, [1, 2], {0: {"rows": 1}}])
def test_a_planted_file_of_shards_runs_no_code_and_is_named(tmp_path, content):
    states, mark = tmp_path / "states", tmp_path / "mark"
    path = write(states, 5)[0]
    torch.save(MakesFile(mark) if isinstance(content, str) else content, path / shard_file(1, 2))
    manifest = read_manifest(path)
    with open(path / shard_file(1, 2), "rb") as file:
        manifest.files[shard_file(1, 2)] = record_of(file)
    (path / "manifest.json").write_bytes(manifest.to_bytes())
    check_checkpoint(path)
    for function in (read_checkpoint, open_checkpoint):
        with pytest.raises(CheckpointError, match=r"shards-00001-of-00002\.pth"):
            function(path)
    assert not mark.exists()
