import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data import RandomCrops, Windows
from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.errors import DataError
from torchbase.randomness.run_randomness import Randomness

# The tests don't depend on the number of cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def loader_of(dataset, size=4, shuffle=True, **options):
    return MiniBatchLoader(dataset, EpochOrder(len(dataset), size, shuffle, "training", Randomness(3)), **options)


def read(loader, epoch=1, start=0):
    return [batch["window"].tolist() for batch in loader.mini_batches(epoch, start)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 9), st.sampled_from([(), (3,), (2, 2)]), st.data())
def test_windows_are_slices(positions, length, stride, shape, data):
    length = min(length, positions)
    array = np.arange(positions * int(np.prod(shape)), dtype=np.uint16).reshape(positions, *shape)
    windows = Windows(array, length, stride=stride)
    expected = [array[begin : begin + length] for begin in range(0, positions - length + 1, stride)]
    assert len(windows) == len(expected)
    rows = data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=5))
    batch = windows.read_columns(rows)["window"]
    assert batch.dtype == torch.int64
    assert batch.tolist() == [expected[row].tolist() for row in rows]
    assert windows[rows[0]]["window"].tolist() == expected[rows[0]].tolist()
    assert [len(one["window"]) for one in windows] == [length] * len(expected)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("u1", torch.int64), (">i4", torch.int64), ("f8", torch.float32), ("?", torch.bool)]
)
def test_the_dtypes_are_those_of_other_columns(dtype, expected):
    array = np.array([0, 1, 1, 0, 1], dtype=dtype)
    for dataset in (Windows(array, 2), RandomCrops(array, 5)):
        assert dataset[0]["window"].dtype == expected
    assert RandomCrops(array, 5)[0]["window"].tolist() == array.tolist()


@pytest.mark.parametrize("kind", [Windows, RandomCrops])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_seeking_and_workers_change_nothing(kind, num_workers):
    expected = [read(loader_of(kind(np.arange(70), 4)), epoch) for epoch in (1, 2)]
    assert expected[0] != expected[1]
    loader = loader_of(kind(np.arange(70), 4), num_workers=num_workers)
    for epoch in (1, 2):
        assert read(loader, epoch) == expected[epoch - 1]
        for start in (1, 4, 5):
            assert read(loader, epoch, start) == expected[epoch - 1][start:]
    loader.end_workers()


def test_an_epoch_reads_each_window_once_and_each_crop_somewhere_else():
    windows = sorted(window[0] for batch in read(loader_of(Windows(np.arange(40), 4, stride=2))) for window in batch)
    assert windows == list(range(0, 37, 2))
    crops = [crop for batch in read(loader_of(RandomCrops(np.arange(10_000), 4, crops=50))) for crop in batch]
    assert all(crop == list(range(crop[0], crop[0] + 4)) for crop in crops)
    assert len({crop[0] for crop in crops}) > 40
    assert len(RandomCrops(np.arange(10), 4)) == 2


def test_crops_reach_the_ends_of_the_array():
    crops = RandomCrops(np.arange(6), 4, crops=200)
    assert set(crops.read_columns(list(range(200)))["window"][:, 0].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("kind", [Windows, RandomCrops])
@pytest.mark.parametrize("begin", [0, 11])
def test_a_memory_map_is_pickled_as_the_name_of_its_file(kind, begin, tmp_path):
    np.arange(1_000_000, dtype=np.int32).tofile(tmp_path / "numbers.bin")
    np.save(tmp_path / "numbers.npy", np.arange(1_000_000, dtype=np.int32))
    for array in (
        np.memmap(tmp_path / "numbers.bin", dtype=np.int32, mode="r"),
        np.load(tmp_path / "numbers.npy", mmap_mode="r"),
    ):
        dataset = kind(array[begin:], 8)
        pickled = pickle.dumps(dataset)
        assert len(pickled) < 3_000
        again = pickle.loads(pickled)
        assert len(again) == len(dataset)
        torch.manual_seed(1)
        expected = dataset[5]["window"].tolist()
        torch.manual_seed(1)
        assert again[5]["window"].tolist() == expected


@pytest.mark.parametrize("part", [slice(None, None, 2), slice(3, 900), slice(None)])
def test_any_array_can_be_pickled(part, tmp_path):
    np.arange(1000, dtype=np.int32).tofile(tmp_path / "numbers.bin")
    for array in (np.arange(1000), np.memmap(tmp_path / "numbers.bin", dtype=np.int32, mode="r")):
        dataset = Windows(array[part], 10)
        again = pickle.loads(pickle.dumps(dataset))
        assert again[3]["window"].tolist() == dataset[3]["window"].tolist() == array[part][30:40].tolist()


def test_the_array_is_not_copied():
    array = np.zeros(100, dtype=np.int64)
    dataset = Windows(torch.from_numpy(array), 10)
    array[5] = 1
    first = dataset[0]["window"]
    assert first.sum() == 1
    first[:] = 7
    assert array.sum() == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Windows([1, 2, 3], 2), "got list"),
        (lambda: Windows(np.array(["a", "b"]), 1), "got <U1"),
        (lambda: Windows(np.array(1), 1), "of shape"),
        (lambda: Windows(np.arange(3), 4), "from an array of length 3"),
        (lambda: Windows(np.arange(3), 0), "expects length"),
        (lambda: Windows(np.arange(3), 2, stride=0), "expects stride"),
        (lambda: Windows(np.arange(3), 2, stride=1.0), "expects stride"),
        (lambda: RandomCrops(np.arange(3), 4), "RandomCrops can't cut"),
        (lambda: RandomCrops(np.arange(3), 2, crops=0), "expects crops"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
    with pytest.raises(IndexError, match="has the samples 0 to 2, but got 3"):
        Windows(np.arange(3), 1)[3]
