import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.durable_files import (
    checksum,
    is_surely_readable,
    make_folder,
    read_json,
    read_tensors,
    remove_durably,
    remove_leftovers,
    sync_folder,
    write_durably,
    write_folder_durably,
    write_json,
    write_tensors,
)
from torchbase.errors import RunDirectoryError
from torchbase.randomness import capture_streams


class MakesFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "file"
    write_durably(path, lambda file: file.write(b"old"))
    write_durably(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["file"]


def test_a_reader_meets_the_old_content_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"half of the new")
        file.flush()
        assert path.read_bytes() == b"old"

    write_durably(path, write)
    assert path.read_bytes() == b"half of the new"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_durably(path, write)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_the_content_reaches_the_disk_before_the_rename_and_the_rename_after_it(tmp_path, monkeypatch):
    steps = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        steps.append(("fsync", os.fstat(descriptor).st_ino))
        real_fsync(descriptor)

    def replace(source: Path, target: Path) -> None:
        steps.append(("replace", target.name))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_durably(tmp_path / "file", lambda file: file.write(b"content"))
    file, folder = (tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino
    assert steps == [("fsync", file), ("replace", "file"), ("fsync", folder)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_an_error_of_the_disk_names_the_file_and_keeps_its_number(tmp_path, monkeypatch, number):
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunDirectoryError, match="file") as caught:
        write_durably(tmp_path / "file", lambda file: file.write(b"content"))
    assert caught.value.errno == number
    assert os.strerror(number) in str(caught.value)
    assert names_in(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_told_apart_from_values_that_cannot_be_kept(tmp_path, monkeypatch):
    real_open = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: real_open(Path("/dev/full"), mode.replace("x", "w")))
    with pytest.raises(RunDirectoryError, match="Free some space") as caught:
        write_tensors(tmp_path / "tensors.pth", torch.ones(100_000))
    assert caught.value.errno == errno.ENOSPC


def test_a_file_in_the_place_of_a_folder_is_named_as_the_trouble(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="in its place") as caught:
        write_durably(tmp_path / "file" / "inner", lambda file: file.write(b"content"))
    assert caught.value.errno == errno.ENOTDIR
    with pytest.raises(RunDirectoryError, match="in its place"):
        make_folder(tmp_path / "file")
    with pytest.raises(RunDirectoryError, match="is not there"):
        write_durably(tmp_path / "missing" / "inner", lambda file: file.write(b"content"))


def test_missing_folders_are_made_and_present_ones_are_left(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    (tmp_path / "a" / "b" / "file").touch()
    make_folder(tmp_path / "a" / "b")
    assert names_in(tmp_path / "a" / "b") == ["file"]


def test_a_folder_that_is_not_there_cannot_be_synced(tmp_path):
    with pytest.raises(RunDirectoryError, match="missing"):
        sync_folder(tmp_path / "missing")


def test_a_folder_appears_with_all_its_files(tmp_path):
    def fill(folder: Path) -> None:
        (folder / "a").write_text("1")
        (folder / "inner").mkdir()
        (folder / "inner" / "b").write_text("2")
        assert not (tmp_path / "folder").exists()

    write_folder_durably(tmp_path / "folder", fill)
    assert (tmp_path / "folder" / "inner" / "b").read_text() == "2"
    assert names_in(tmp_path) == ["folder"]


def test_every_file_and_folder_reaches_the_disk_before_the_rename(tmp_path, monkeypatch):
    synced = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, (tmp_path / "folder").exists()))
        real_fsync(descriptor)

    def fill(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("content")

    monkeypatch.setattr(os, "fsync", fsync)
    write_folder_durably(tmp_path / "folder", fill)
    written = [tmp_path / "folder", tmp_path / "folder/inner", tmp_path / "folder/inner/file"]
    assert sorted(synced[:-1]) == sorted((path.stat().st_ino, False) for path in written)
    assert synced[-1] == (tmp_path.stat().st_ino, True)


def test_a_folder_that_cannot_be_filled_leaves_nothing(tmp_path):
    def fill(folder: Path) -> None:
        (folder / "a").write_text("1")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_folder_durably(tmp_path / "folder", fill)
    assert names_in(tmp_path) == []


def test_a_folder_that_is_there_is_not_replaced_even_when_it_is_empty(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunDirectoryError, match="folder") as caught:
        write_folder_durably(tmp_path / "folder", lambda folder: (folder / "a").write_text("1"))
    assert caught.value.errno == errno.EEXIST
    assert names_in(tmp_path) == ["folder"]
    assert names_in(tmp_path / "folder") == []


def test_a_folder_is_removed_and_a_missing_one_is_an_error(tmp_path):
    write_folder_durably(tmp_path / "folder", lambda folder: (folder / "a").write_text("1"))
    remove_durably(tmp_path / "folder")
    assert names_in(tmp_path) == []
    with pytest.raises(RunDirectoryError, match="folder"):
        remove_durably(tmp_path / "folder")


def test_only_leftovers_of_killed_processes_are_removed(tmp_path):
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from torchbase.durable_files import write_durably, write_folder_durably
        kill = lambda target: os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[1] == "file":
            write_durably(Path("file"), kill)
        write_folder_durably(Path("folder"), lambda folder: [(folder / "a").touch(), kill(folder)])
    """
    for kind in ("file", "folder"):
        subprocess.run([sys.executable, "-c", script, kind], cwd=tmp_path, check=False)
    assert len(names_in(tmp_path)) == 2
    kept = [".file.tmp", ".hidden", "file.0123456789abcdef.tmp", "plain.tmp"]
    for name in kept:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == kept


def test_a_link_with_the_name_of_a_leftover_goes_and_its_target_stays(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / ".link.0123456789abcdef.tmp").symlink_to(tmp_path / "precious")
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == ["precious"]


def test_the_checksum_is_the_sha256_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert checksum(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()
    with pytest.raises(RunDirectoryError, match="missing"):
        checksum(tmp_path / "missing")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(value=json_values)
def test_what_is_written_as_json_is_read_back(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": {1}}, {(1, 2): 3}, torch.ones(1)])
def test_what_is_no_json_is_refused_and_the_old_file_stays(tmp_path, value):
    write_json(tmp_path / "value.json", 1)
    with pytest.raises(RunDirectoryError, match=r"value\.json.*finite"):
        write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == 1


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe\x00", b"[" * 100_000])
def test_damaged_json_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "value.json").write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"value\.json is damaged"):
        read_json(tmp_path / "value.json")


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    for read in (read_json, read_tensors):
        with pytest.raises(RunDirectoryError, match="missing") as caught:
            read(tmp_path / "missing")
        assert caught.value.errno == errno.ENOENT


def test_json_is_indented_for_people(tmp_path):
    write_json(tmp_path / "value.json", {"a": 1})
    assert (tmp_path / "value.json").read_text() == '{\n  "a": 1\n}\n'
    assert json.loads((tmp_path / "value.json").read_text()) == {"a": 1}


def test_tensors_and_plain_values_are_read_back(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    value = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "plain": [1, 2.5, None, True, "text", b"bytes", (1, 2), {3}, float("inf")],
        "random": torch.get_rng_state(),
    }
    write_tensors(tmp_path / "value.pth", value)
    read = read_tensors(tmp_path / "value.pth")
    assert isinstance(read["network"], OrderedDict)
    assert read["plain"] == value["plain"]
    assert torch.equal(read["random"], value["random"])
    assert all(torch.equal(read["network"][name], tensor) for name, tensor in value["network"].items())
    moments = read["optimizer"]["state"][0]["exp_avg"], value["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(*moments)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.ones(2), "numpy"),
        (np.float64(1.0), "numpy"),
        (Path("a"), "pathlib"),
        (lambda: None, "lambda"),
        (torch.nn.Linear(1, 1), "Linear"),
    ],
)
def test_what_could_not_be_read_again_is_refused_when_it_is_written(tmp_path, value, named):
    write_tensors(tmp_path / "value.pth", 1)
    with pytest.raises(RunDirectoryError, match=rf"value\.pth.*{named}"):
        write_tensors(tmp_path / "value.pth", {"a": value})
    assert read_tensors(tmp_path / "value.pth") == 1
    assert names_in(tmp_path) == ["value.pth"]


numbers = st.integers() | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 256**255 * 2])
leaves = st.none() | st.booleans() | numbers | st.floats() | st.text() | st.binary(max_size=3)
dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint32]
dtypes += [torch.uint8, torch.bool, torch.complex64]
tensors = st.sampled_from(dtypes).map(lambda dtype: torch.ones(2, dtype=dtype)) | st.sampled_from(
    [
        torch.ones(2).to_sparse(),
        torch.ones(2, requires_grad=True),
        torch.ones(2, 3).T,
        torch.nn.Parameter(torch.ones(1)),
        torch.ones(2, dtype=torch.complex64).conj(),
    ]
)
named_types = st.sampled_from(
    [np.float64(1.0), np.ones(1), Path("a"), torch.float32, torch.Size([1]), int, frozenset()]
)
keys = st.text(max_size=3) | st.integers() | st.tuples(st.integers(), st.text(max_size=1))
nests = st.recursive(
    leaves | tensors | named_types,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(nests)
def test_what_is_surely_readable_is_read(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("values") / "value.pth"
    torch.save(value, path)
    try:
        read_tensors(path)
    except RunDirectoryError:
        assert not is_surely_readable(value)


def test_the_state_of_a_training_is_surely_readable():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    for state in (network.state_dict(), optimizer.state_dict(), capture_streams()):
        assert is_surely_readable(state)


def a_list_in_itself():
    value = []
    value.append(value)
    return value


def a_tensor_with(attribute):
    tensor = torch.ones(1)
    tensor.attribute = attribute
    return tensor


def a_dictionary_with(attribute):
    value = OrderedDict()
    value.attribute = attribute
    return value


@pytest.mark.parametrize(
    "value",
    [
        a_list_in_itself(),
        2**2040,
        a_tensor_with(Path("a")),
        a_dictionary_with(Path("a")),
        {Path("a"): 1},
        [[np.float64(1)]],
        True + np.int64(1),
        torch.ones(1).to_sparse(),
    ],
)
def test_what_may_be_unreadable_is_not_surely_readable(value):
    assert not is_surely_readable(value)


@pytest.mark.parametrize("how", ["torch", "plain"])
def test_a_planted_pickle_is_refused_and_does_not_run(tmp_path, how):
    path, mark = tmp_path / "planted.pth", tmp_path / "mark"
    if how == "torch":
        torch.save({"a": MakesFile(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(MakesFile(mark), protocol=2))
    with pytest.raises(RunDirectoryError, match=r"planted\.pth.*something other than tensors"):
        read_tensors(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(MakesFile(mark)))
    assert mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_file_of_tensors_is_an_error_that_names_it(tmp_path, share):
    path = tmp_path / "value.pth"
    write_tensors(path, {"a": torch.ones(100)})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RunDirectoryError, match=r"value\.pth is damaged"):
        read_tensors(path)


def test_tensors_are_put_on_the_device_that_is_asked_for(tmp_path):
    write_tensors(tmp_path / "value.pth", torch.ones(2))
    assert read_tensors(tmp_path / "value.pth", map_location="meta").device.type == "meta"
