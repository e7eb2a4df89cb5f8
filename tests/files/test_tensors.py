import errno
import os
import pickle
from collections import OrderedDict
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbase.errors import RunDirectoryError
from torchbase.files import durable
from torchbase.files.tensors import is_loadable, read_tensors, write_tensors
from torchbase.randomness.streams import capture_streams


class MakesFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_distinguished_from_values_that_cannot_be_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "FileIO", lambda path, mode: FileIO("/dev/full", "r+"))
    with pytest.raises(RunDirectoryError, match="free some space") as caught:
        write_tensors(tmp_path / "tensors.pth", torch.ones(100_000))
    assert caught.value.errno == errno.ENOSPC


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(RunDirectoryError, match="missing") as caught:
        read_tensors(tmp_path / "missing")
    assert caught.value.errno == errno.ENOENT


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
def test_a_value_that_could_not_be_read_again_is_refused_when_it_is_written(tmp_path, value, named):
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


@given(nests)
def test_a_value_that_is_certainly_loadable_is_read(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("values") / "value.pth"
    torch.save(value, path)
    try:
        read_tensors(path)
    except RunDirectoryError:
        assert not is_loadable(value)


def test_the_state_of_a_training_is_certainly_loadable():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    for state in (network.state_dict(), optimizer.state_dict(), capture_streams()):
        assert is_loadable(state)


def list_in_itself():
    value = []
    value.append(value)
    return value


def tensor_with(attribute):
    tensor = torch.ones(1)
    tensor.attribute = attribute
    return tensor


def dictionary_with(attribute):
    value = OrderedDict()
    value.attribute = attribute
    return value


@pytest.mark.parametrize(
    "value",
    [
        list_in_itself(),
        2**2040,
        tensor_with(Path("a")),
        dictionary_with(Path("a")),
        {Path("a"): 1},
        [[np.float64(1)]],
        True + np.int64(1),
        torch.ones(1).to_sparse(),
    ],
)
def test_a_value_that_may_be_unreadable_is_not_certainly_loadable(value):
    assert not is_loadable(value)


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
def test_a_truncated_file_of_tensors_is_an_error_that_names_it(tmp_path, share):
    path = tmp_path / "value.pth"
    write_tensors(path, {"a": torch.ones(100)})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RunDirectoryError, match=r"value\.pth is damaged"):
        read_tensors(path)


def test_tensors_are_loaded_to_the_requested_device(tmp_path):
    write_tensors(tmp_path / "value.pth", torch.ones(2))
    assert read_tensors(tmp_path / "value.pth", map_location="meta").device.type == "meta"
