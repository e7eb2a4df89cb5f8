import hashlib
import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.checkpoints.keeping import keep_newest
from torchbase.checkpoints.listing import has_results, list_checkpoints
from torchbase.checkpoints.storage import (
    check_checkpoint,
    newest_whole_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from torchbase.errors import CheckpointError, RunDirectoryError

PARTS = {"network": {"weight": torch.arange(6.0).reshape(2, 3)}, "progress": {"epoch": 3, "loss": float("nan")}}


class MakesFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def write(folder: Path, *iterations: int) -> list[Path]:
    return [write_checkpoint(folder, iteration // 10, iteration, {"value": iteration}) for iteration in iterations]


def iterations_in(folder: Path) -> list[int]:
    return [int(path.name.rpartition("-")[2]) for path in list_checkpoints(folder)]


def damage(checkpoint: Path, name: str = "value.pth") -> None:
    content = bytearray((checkpoint / name).read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / name).write_bytes(content)


def forge_manifest(checkpoint: Path, files: dict[str, Path]) -> None:
    content = json.loads((checkpoint / "manifest.json").read_text())
    del content["sha256"]
    content["files"] = {
        name: {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for name, file in files.items()
    }
    own_checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps({**content, "sha256": own_checksum}, indent=2))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("states"), 3, 171, PARTS)


def test_a_checkpoint_is_read_back(tmp_path):
    path = write_checkpoint(tmp_path / "run" / "states", 3, 171, PARTS)
    assert path == tmp_path / "run" / "states" / "checkpoint-epoch-000003-iteration-0000000171"
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", "network.pth", "progress.pth"]
    read = read_checkpoint(path)
    assert (read.path, read.epoch, read.iteration) == (path, 3, 171)
    assert torch.equal(read.parts["network"]["weight"], PARTS["network"]["weight"])
    assert str(read.parts["progress"]) == "{'epoch': 3, 'loss': nan}"


def test_progress_beyond_the_padding_is_sorted(tmp_path):
    write(tmp_path, 9_999_999, 10_000_000, 10**11, 99_999_999_999)
    assert iterations_in(tmp_path) == [10**11, 99_999_999_999, 10_000_000, 9_999_999]
    newest = newest_whole_checkpoint(tmp_path)
    assert newest is not None
    assert newest.epoch == 10**10


def test_the_iteration_counts_before_the_epoch(tmp_path):
    write_checkpoint(tmp_path, 2, 40, {})
    write_checkpoint(tmp_path, 1, 50, {})
    assert iterations_in(tmp_path) == [50, 40]


def test_the_same_iteration_in_a_later_epoch_is_newer(tmp_path):
    write_checkpoint(tmp_path, 2, 40, {})
    write_checkpoint(tmp_path, 1, 40, {})
    newest = newest_whole_checkpoint(tmp_path)
    assert newest is not None
    assert newest.epoch == 2


@pytest.mark.parametrize("name", ["", ".", "..", "../escaped", "/escaped", "a/b", "a.b", "a\n", "é"])
def test_a_part_whose_name_cannot_be_a_file_name_is_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match="part"):
        write_checkpoint(tmp_path / "states", 0, 0, {name: 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("epoch", "iteration"), [(-1, 0), (0, -1)])
def test_progress_below_zero_is_refused(tmp_path, epoch, iteration):
    with pytest.raises(CheckpointError, match="-1"):
        write_checkpoint(tmp_path, epoch, iteration, {})


def test_a_part_that_cannot_be_saved_leaves_no_files(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"bad\.pth"):
        write_checkpoint(tmp_path, 0, 0, {"good": 1, "bad": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_whole_checkpoint_of_the_same_progress_stays(tmp_path):
    path = write_checkpoint(tmp_path, 0, 7, {"value": "first"})
    assert write_checkpoint(tmp_path, 0, 7, {"value": "second"}) == path
    assert read_checkpoint(path).parts == {"value": "first"}


def test_a_damaged_checkpoint_of_the_same_progress_is_replaced(tmp_path, caplog):
    path = write_checkpoint(tmp_path, 0, 7, {"value": "first"})
    damage(path)
    assert write_checkpoint(tmp_path, 0, 7, {"value": "second"}) == path
    assert read_checkpoint(path).parts == {"value": "second"}
    assert "value.pth" in caplog.text
    assert list(tmp_path.iterdir()) == [path]


@settings(max_examples=100)
@given(data=st.data())
def test_a_changed_byte_is_always_noticed_and_its_file_named(whole, data):
    file = data.draw(st.sampled_from(sorted(whole.iterdir())))
    content = file.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[position] ^= data.draw(st.integers(1, 255))
    try:
        file.write_bytes(changed)
        with pytest.raises(CheckpointError, match=file.name):
            check_checkpoint(whole)
    finally:
        file.write_bytes(content)
    check_checkpoint(whole)


def test_even_a_changed_space_in_the_manifest_is_noticed(whole):
    file = whole / "manifest.json"
    content = file.read_bytes()
    spaces = [position for position, byte in enumerate(content) if byte in b" \n"]
    assert len(spaces) > 10
    try:
        for position in spaces:
            changed = content[:position] + b"\t" + content[position + 1 :]
            assert json.loads(changed) == json.loads(content)
            file.write_bytes(changed)
            with pytest.raises(CheckpointError, match=r"manifest\.json"):
                check_checkpoint(whole)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("name", ["manifest.json", "network.pth", "progress.pth"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_noticed_and_named(tmp_path, name, share):
    path = write_checkpoint(tmp_path, 3, 171, PARTS)
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["manifest.json", "network.pth", "progress.pth"])
def test_a_missing_file_is_noticed_and_named(tmp_path, name):
    path = write_checkpoint(tmp_path, 3, 171, PARTS)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


def test_a_folder_in_the_place_of_a_file_is_noticed_and_named(tmp_path):
    path = write_checkpoint(tmp_path, 3, 171, PARTS)
    (path / "network.pth").unlink()
    (path / "network.pth").mkdir()
    with pytest.raises(CheckpointError, match=r"network\.pth"):
        read_checkpoint(path)


def test_a_file_that_is_not_part_of_a_checkpoint_is_noticed_and_named(tmp_path):
    path = write_checkpoint(tmp_path, 3, 171, PARTS)
    (path / "foreign.pth").touch()
    with pytest.raises(CheckpointError, match=r"foreign\.pth is not part of the checkpoint"):
        read_checkpoint(path)


def test_a_missing_checkpoint_is_an_error_that_names_it(tmp_path):
    with pytest.raises(CheckpointError, match="missing"):
        read_checkpoint(tmp_path / "missing")


@pytest.mark.parametrize("version", [2, 5])
def test_a_checkpoint_of_another_format_is_refused(tmp_path, version):
    (path,) = write(tmp_path, 1)
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 3', f'"format_version": {version}'))
    with pytest.raises(CheckpointError, match=f"has format {version}, and .* reads formats 3 and 4"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", ["null", "[]", '{"files": {"../a": 1}}'])
def test_an_invalid_manifest_is_refused(tmp_path, content):
    (path,) = write(tmp_path, 1)
    (path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json isn't a manifest"):
        read_checkpoint(path)


def test_a_checkpoint_under_the_name_of_another_progress_is_refused(tmp_path):
    (path,) = write(tmp_path, 1)
    renamed = path.rename(tmp_path / path.name.replace("1", "2"))
    with pytest.raises(CheckpointError, match="iteration 1"):
        read_checkpoint(renamed)
    copy = renamed.rename(tmp_path / "my favourite")
    assert read_checkpoint(copy).iteration == 1


def test_files_that_a_manifest_lists_outside_the_folder_are_not_read(tmp_path):
    (path,) = write(tmp_path, 1)
    (path / "value.pth").rename(tmp_path / "value.pth")
    forge_manifest(path, {"../value.pth": tmp_path / "value.pth"})
    with pytest.raises(CheckpointError, match=r"\.\./value\.pth is missing"):
        read_checkpoint(path)


def test_a_planted_pickle_with_a_matching_manifest_does_not_run(tmp_path, caplog):
    states, mark = tmp_path / "states", tmp_path / "mark"
    older, planted = write(states, 1, 2)
    torch.save(MakesFile(mark), planted / "value.pth")
    forge_manifest(planted, {"value.pth": planted / "value.pth"})
    check_checkpoint(planted)
    with pytest.raises(CheckpointError, match=r"value\.pth.*something other than tensors"):
        read_checkpoint(planted)
    newest = newest_whole_checkpoint(states)
    assert newest is not None
    assert newest.path == older
    assert not mark.exists()
    torch.load(planted / "value.pth", weights_only=False)
    assert mark.exists()


def test_only_checkpoints_are_listed_with_the_newest_first(tmp_path):
    write(tmp_path, 100, 3, 20)
    (tmp_path / ".checkpoint-epoch-000009-iteration-0000000999.0123456789abcdef.tmp").mkdir()
    (tmp_path / "checkpoint-epoch-x-iteration-y").mkdir()
    (tmp_path / "checkpoint-epoch-000009-iteration-0000000999").touch()
    (tmp_path / "seeds.json").touch()
    assert iterations_in(tmp_path) == [100, 20, 3]


def test_a_folder_without_checkpoints_holds_none(tmp_path):
    assert list_checkpoints(tmp_path / "missing") == []
    assert newest_whole_checkpoint(tmp_path / "missing") is None
    assert newest_whole_checkpoint(tmp_path) is None
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="file"):
        list_checkpoints(tmp_path / "file")


def test_damaged_checkpoints_are_skipped_and_named(tmp_path, caplog):
    _, good, incomplete, changed = write(tmp_path, 10, 20, 30, 40)
    damage(changed)
    (incomplete / "value.pth").unlink()
    with caplog.at_level(logging.WARNING, "torchbase"):
        newest = newest_whole_checkpoint(tmp_path)
    assert newest is not None
    assert newest.path == good
    assert newest.parts == {"value": 20}
    assert [record.args[0] for record in caplog.records] == [changed.name, incomplete.name]
    assert "value.pth was changed" in caplog.records[0].getMessage()
    assert "value.pth is missing" in caplog.records[1].getMessage()


def test_if_no_checkpoint_is_whole_the_error_names_each(tmp_path):
    first, second = write(tmp_path, 1, 2)
    damage(first)
    damage(second, "manifest.json")
    with pytest.raises(CheckpointError, match=r"(?s)No checkpoint.*manifest\.json.*value\.pth") as caught:
        newest_whole_checkpoint(tmp_path)
    assert first.name in str(caught.value)
    assert second.name in str(caught.value)


@settings(max_examples=20)
@given(iterations=st.sets(st.integers(0, 99), max_size=6), count=st.integers(1, 5))
def test_the_requested_number_of_newest_checkpoints_stays(tmp_path_factory, iterations, count):
    folder = tmp_path_factory.mktemp("states")
    write(folder, *iterations)
    keep_newest(folder, count)
    assert iterations_in(folder) == sorted(iterations, reverse=True)[:count]
    assert not any(path.name.startswith(".") for path in folder.iterdir())


def test_the_last_whole_checkpoint_is_not_removed_in_favor_of_a_damaged_newer_one(tmp_path):
    *_, newest = write(tmp_path, 10, 20, 30, 40)
    damage(newest)
    keep_newest(tmp_path, 1)
    assert iterations_in(tmp_path) == [40, 30]
    write(tmp_path, 50)
    keep_newest(tmp_path, 1)
    assert iterations_in(tmp_path) == [50]


def test_a_checkpoint_that_is_known_to_be_whole_is_not_read_again(tmp_path, caplog):
    *_, newest = write(tmp_path, 10, 20, 30)
    damage(newest)  # a read would notice it
    keep_newest(tmp_path, 1, whole=newest)
    assert iterations_in(tmp_path) == [30]
    assert not caplog.records


def test_nothing_is_removed_when_no_checkpoint_is_whole(tmp_path):
    for path in write(tmp_path, 10, 20, 30):
        damage(path)
    keep_newest(tmp_path, 1)
    assert iterations_in(tmp_path) == [30, 20, 10]


def test_keeping_no_checkpoint_is_refused(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(CheckpointError, match="at least 1"):
        keep_newest(tmp_path, 0)
    assert iterations_in(tmp_path) == [1]


# One process forks each writer, so starting takes no time.
KILLED_WRITERS = """
import json, os, signal, sys, time
from pathlib import Path
import torch
from torchbase.checkpoints.keeping import keep_newest
from torchbase.checkpoints.storage import newest_whole_checkpoint, write_checkpoint

torch.set_num_threads(1)
states = Path("states")


def write_repeatedly(iteration, announce):
    while True:
        iteration += 1
        parts = {"network": torch.full((20_000,), float(iteration)), "progress": {"iteration": iteration}}
        write_checkpoint(states, iteration // 10, iteration, parts)
        os.write(announce, iteration.to_bytes(8, "big"))
        keep_newest(states, 2)


found = 0
for seconds in map(float, sys.argv[1:]):
    reader, announce = os.pipe()
    writer = os.fork()
    if writer == 0:
        write_repeatedly(found, announce)
    os.close(announce)
    announced = os.read(reader, 8)
    time.sleep(seconds)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    while more := os.read(reader, 1 << 16):
        announced += more
    os.close(reader)
    newest = newest_whole_checkpoint(states)
    found = newest.iteration
    print(json.dumps({
        "announced": int.from_bytes(announced[-8:], "big"),
        "found": found,
        "network": newest.parts["network"].unique().tolist(),
        "progress": newest.parts["progress"]["iteration"],
        "unfinished": any(path.name.startswith(".") for path in states.iterdir()),
    }))
"""


def test_a_writer_killed_at_any_instant_loses_no_announced_checkpoint(programs, tmp_path):
    draw = random.Random(0)
    seconds = [draw.uniform(0, 0.1) for _ in range(25)]
    done = programs.run("-W", "ignore", "-c", KILLED_WRITERS, *seconds, cwd=tmp_path)
    assert done.stderr == ""
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(seconds)
    for result in results:
        # There is one more if the kill fell between the rename and the announcement.
        assert result["found"] - result["announced"] in (0, 1)
        assert result["network"] == [result["found"]]
        assert result["progress"] == result["found"]
    assert any(result["unfinished"] for result in results), "no kill fell into a write: nothing was tested"


def test_checking_for_results_makes_no_folder(tmp_path):
    assert not has_results(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["bad_mini_batches", "profile"])
def test_files_that_messages_name_are_results_and_an_empty_folder_is_not(tmp_path, folder):
    (tmp_path / folder).mkdir()
    assert not has_results(tmp_path)
    (tmp_path / folder / "file").touch()
    assert has_results(tmp_path)
    assert len(list(tmp_path.rglob("*"))) == 2
