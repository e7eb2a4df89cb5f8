import logging
import multiprocessing
import random

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data import stream_shards
from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.data.stream_shards import resumes_exactly
from torchbase.data.streaming import StreamLoader
from torchbase.errors import DataError
from torchbase.randomness.run_randomness import Randomness

RANDOMNESS = Randomness(7)
MANY_WORKERS = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def rows(number=38):
    return Dataset.from_dict(
        {
            "x": [[float(n), 1.0] for n in range(number)],
            "n": list(range(number)),
            "name": [str(n) for n in range(number)],
            "even": [n % 2 == 0 for n in range(number)],
        }
    )


def augment(example):
    return {"noise": example["n"] + random.random() + np.random.rand() + torch.rand(1).item()}


def augment_batch(examples):
    return {"noise": [augment({"n": n})["noise"] for n in examples["n"]]}


def generate(files):
    for file in files:
        for n in range(9):
            yield {"n": 10 * file + n, "noise": torch.rand(1).item()}


def generated():
    return IterableDataset.from_generator(generate, gen_kwargs={"files": [0, 1, 2, 3]})


def stream(shards=4, number=38):
    return rows(number).to_iterable_dataset(num_shards=shards)


STREAMS = {
    "plain": stream,
    "mapped": lambda: stream().map(augment),
    "mapped twice": lambda: stream().map(augment).map(lambda example: {"more": example["noise"] + random.random()}),
    "selected": lambda: stream().select_columns(["n"]).map(augment),
    "torch": lambda: stream().with_format("torch"),
    "numpy": lambda: stream().with_format("numpy"),
    "shuffled": lambda: stream().shuffle(seed=1, buffer_size=6).map(augment),
    "shuffled from one": lambda: stream().map(augment).shuffle(seed=1, buffer_size=6, max_buffer_input_shards=1),
    "mapped in batches": lambda: stream().map(augment_batch, batched=True, batch_size=5),
    "filtered": lambda: stream().map(augment).filter(lambda example: example["n"] % 3 > 0),
    "part": lambda: stream().skip(5).take(20).map(augment),
    "generated": generated,
    "shuffled while generated": lambda: generated().shuffle(seed=2, buffer_size=4, max_buffer_input_shards=1),
}
RESUME_FROM_STATE = {"plain", "mapped", "mapped twice", "selected", "torch", "numpy"}


def loader_of(data, **options):
    return StreamLoader(data, 3, "training", RANDOMNESS, **options)


def epochs_of(loader, *epochs):
    return [batch for epoch in epochs for batch in loader.mini_batches(epoch)]


def are_equal(first, second):
    return len(first) == len(second) and all(_equal(*pair) for pair in zip(first, second, strict=True))


def _equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
        for name, value in first.items()
    )


def numbers(batches):
    return [n for batch in batches for n in batch["n"].tolist()]


def first_of(batches, is_whole):
    """All mini-batches, or the first only."""
    return list(batches) if is_whole else [next(batches)]


def read_some(loader, count, epoch=1):
    batches = loader.mini_batches(epoch)
    return [next(batches) for _ in range(count)]


def test_an_epoch_is_one_pass_in_which_the_shards_take_turns():
    loader = loader_of(stream(shards=3, number=13))  # of 5, 4 and 4
    batches = list(loader)
    assert [batch["n"].tolist() for batch in batches] == [[0, 1, 2], [5, 6, 7], [9, 10, 11], [3, 4], [8], [12]]
    assert numbers(loader.mini_batches(2)) == numbers(batches)


def test_columns_equal_those_of_a_dataset():
    (expected, *_) = MiniBatchLoader(rows(), EpochOrder(38, 3, False, "training", RANDOMNESS))
    for data in (stream(), stream().with_format("torch"), stream().map(lambda example: {"n": example["n"]})):
        first = next(iter(loader_of(data)))
        assert _equal(first, expected)
        assert {name: value.dtype for name, value in first.items() if name != "name"} == {
            "x": torch.float32,
            "n": torch.int64,
            "even": torch.bool,
        }


def test_ragged_lists_and_other_values_are_lists_and_tensors_are_unchanged():
    def make(example):
        n = example["n"]
        return {
            "ragged": [n] * (n % 2 + 1),
            "tensor": torch.full((2,), n, dtype=torch.float64),
            "array": np.full(2, n),
            "nested": {"a": n},
            "missing": None if n else 1,
        }

    first = next(iter(loader_of(stream().map(make))))
    assert [value.tolist() for value in first["ragged"]] == [[0], [1, 1], [2]]
    assert first["tensor"].dtype == torch.float64
    assert first["array"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert [value["a"].item() for value in first["nested"]] == [0, 1, 2]
    assert first["missing"] == [1, None, None]


@pytest.mark.parametrize("name", STREAMS)
def test_a_loader_resumes_exactly_after_any_mini_batch(name):
    data = STREAMS[name]()
    expected = epochs_of(loader_of(data), 1, 2)
    length, open_shards = len(list(loader_of(data))), []
    for stop in range(1, length + 1):
        interrupted = loader_of(data)
        assert are_equal(read_some(interrupted, stop), expected[:stop])
        state = interrupted.state_dict()
        resumed = loader_of(STREAMS[name]())
        resumed.load_state_dict(state)
        rest = [*resumed.mini_batches(1, stop), *first_of(resumed.mini_batches(2), stop == length)]
        assert are_equal(rest, expected[stop:][: len(rest)])
        assert len(rest) > length - stop
        assert interrupted.state_dict() == state
        shards = zip(state["states"], state["has_ended"], state["given"], strict=True)
        open_shards += [saved for saved, has_ended, returned in shards if returned and not has_ended]
    assert (None not in open_shards) == (name in RESUME_FROM_STATE)


@pytest.mark.parametrize("name", ["plain", "mapped", "torch", "shuffled", "filtered"])
def test_many_shards_are_combined_and_resume_exactly(name, monkeypatch):
    data = STREAMS[name]()
    examples = sorted(numbers(epochs_of(loader_of(data), 1, 2)))
    monkeypatch.setattr(stream_shards, "SHARDS_AT_ONCE", 2)
    expected = epochs_of(loader_of(data), 1, 2)
    assert sorted(numbers(expected)) == examples
    length = len(expected) // 2
    for stop in range(1, length + 1):
        interrupted = loader_of(data)
        read_some(interrupted, stop)
        assert len(interrupted.state_dict()["given"]) == 2
        resumed = loader_of(data)
        resumed.load_state_dict(interrupted.state_dict())
        rest = [*resumed.mini_batches(1, stop), *first_of(resumed.mini_batches(2), stop == length)]
        assert are_equal(rest, expected[stop:][: len(rest)])
        assert len(rest) > length - stop


def test_resuming_from_a_state_does_not_read_previous_examples():
    seen = []

    def record(example):
        seen.append(example["n"])
        return example

    interrupted = loader_of(stream(shards=1).map(record))
    read_some(interrupted, 10)
    resumed = loader_of(stream(shards=1).map(record))
    resumed.load_state_dict(interrupted.state_dict())
    seen.clear()
    assert next(resumed.mini_batches(1, 10))["n"].tolist() == seen == [30, 31, 32]


def test_a_stream_without_an_exact_state_is_read_again_and_logged(caplog):
    data = STREAMS["shuffled"]()
    interrupted = loader_of(data)
    read_some(interrupted, 5)
    resumed = loader_of(data)
    resumed.load_state_dict(interrupted.state_dict())
    with caplog.at_level(logging.INFO, "torchbase"):
        next(resumed.mini_batches(1, 5))
    assert "The stream of training has no state" in caplog.text
    assert "5 mini-batches are read again and skipped" in caplog.text


@pytest.mark.parametrize("name", ["mapped", "shuffled"])
def test_without_a_state_an_epoch_is_read_again_up_to_the_start(name):
    data = STREAMS[name]()
    expected = epochs_of(loader_of(data), 2)
    assert are_equal(list(loader_of(data).mini_batches(2, 6)), expected[6:])


@MANY_WORKERS
@pytest.mark.parametrize("name", ["mapped", "shuffled", "generated"])
def test_the_number_of_workers_has_no_effect(name):
    data = STREAMS[name]()
    expected = epochs_of(loader_of(data), 1, 2)
    for workers in (1, 4):
        assert are_equal(epochs_of(loader_of(data, num_workers=workers), 1, 2), expected)


@pytest.mark.parametrize(("first", "then", "stop"), [(0, 2, 5), (2, 0, 5), (1, 2, 3), (2, 1, 11)])
@pytest.mark.parametrize("name", ["mapped", "shuffled"])
def test_a_loader_resumes_with_another_number_of_workers(name, first, then, stop):
    data = STREAMS[name]()
    expected = epochs_of(loader_of(data), 1)
    interrupted = loader_of(data, num_workers=first)
    read_some(interrupted, stop)
    resumed = loader_of(data, num_workers=then)
    resumed.load_state_dict(interrupted.state_dict())
    assert are_equal(list(resumed.mini_batches(1, stop)), expected[stop:])


@MANY_WORKERS
def test_shards_of_very_different_lengths_are_read_by_several_workers():
    def lengths(lengths):
        for length in lengths:
            yield from ({"n": 1000 * length + n} for n in range(length))

    data = IterableDataset.from_generator(lengths, gen_kwargs={"lengths": [1, 0, 40, 3, 0, 7]})
    expected = epochs_of(loader_of(data), 1, 2)
    assert len(numbers(expected)) == 2 * 51
    for workers in (2, 3):
        loader = loader_of(data, num_workers=workers)
        assert are_equal(epochs_of(loader, 1), expected[: len(expected) // 2])
        assert are_equal(epochs_of(loader, 2), expected[len(expected) // 2 :])


def test_only_workers_with_equal_numbers_of_shards_are_used(caplog):
    with caplog.at_level(logging.INFO, "torchbase"):
        loader = loader_of(stream(shards=1), num_workers=2)
    assert "training uses 1 of 2 workers: its stream has 1 shards" in caplog.text
    assert are_equal(list(loader), list(loader_of(stream(shards=1))))


def test_an_interrupted_epoch_can_continue_or_restart_in_the_same_loader():
    for workers in (0, 2):
        loader = loader_of(STREAMS["mapped"](), num_workers=workers)
        expected = list(loader)
        assert are_equal(read_some(loader, 4), expected[:4])
        assert are_equal(list(loader.mini_batches(1, 4)), expected[4:])
        read_some(loader, 4)
        assert are_equal(list(loader.mini_batches(1)), expected)


@pytest.mark.parametrize("name", ["mapped", "shuffled"])
def test_a_loader_continues_with_new_workers_after_its_workers_were_stopped(name):
    loader = loader_of(STREAMS[name](), num_workers=2)
    expected = list(loader)
    read_some(loader, 5)
    loader.end_workers()
    assert multiprocessing.active_children() == []
    assert are_equal(list(loader.mini_batches(1, 5)), expected[5:])


def test_a_shuffled_stream_has_another_order_in_each_epoch():
    loader = loader_of(STREAMS["shuffled"]())
    first, second = numbers(loader.mini_batches(1)), numbers(loader.mini_batches(2))
    assert first != second
    assert sorted(first) == sorted(second) == list(range(38))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("iterations", [3, 16, 20])
def test_epochs_with_a_number_of_iterations_continue_at_the_position_in_the_stream(iterations, workers):
    data = STREAMS["mapped"]()
    passes = epochs_of(loader_of(data), 1, 2, 3, 4, 5)
    loader = loader_of(data, iterations_per_epoch=iterations, num_workers=workers)
    for epoch in (1, 2, 3):
        assert are_equal(list(loader.mini_batches(epoch)), passes[(epoch - 1) * iterations : epoch * iterations])


@pytest.mark.parametrize("name", ["mapped", "shuffled"])
def test_epochs_with_a_number_of_iterations_resume_exactly_with_and_without_a_state(name):
    data = STREAMS[name]()
    length, iterations = len(list(loader_of(data))), 5
    expected = epochs_of(loader_of(data), 1, 2, 3)
    interrupted = loader_of(data, iterations_per_epoch=iterations)
    for done in range(1, 2 * length - iterations):
        epoch, position = (done - 1) // iterations + 1, (done - 1) % iterations + 1
        batches = interrupted.mini_batches(epoch, position - 1)
        assert _equal(next(batches), expected[done - 1])
        for with_state in (True, False) if done % 3 == 0 else (True,):
            resumed = loader_of(data, iterations_per_epoch=iterations)
            if with_state:
                resumed.load_state_dict(interrupted.state_dict())
            rest = [*resumed.mini_batches(epoch, position), *resumed.mini_batches(epoch + 1)]
            assert are_equal(rest, expected[done : (epoch + 1) * iterations])


@settings(max_examples=25)
@given(data=st.data(), number=st.integers(1, 25), shards=st.integers(1, 4), size=st.integers(1, 7))
def test_any_stream_yields_each_example_once_and_resumes_anywhere(data, number, shards, size):
    shards = min(shards, number)
    buffer = data.draw(st.none() | st.integers(1, 5))
    mapped = stream(shards, number).map(augment)
    source = mapped if buffer is None else mapped.shuffle(seed=3, buffer_size=buffer, max_buffer_input_shards=1)
    expected = list(StreamLoader(source, size, "training", RANDOMNESS))
    assert sorted(numbers(expected)) == list(range(number))
    stop = data.draw(st.integers(0, len(expected)))
    interrupted = StreamLoader(source, size, "training", RANDOMNESS)
    read_some(interrupted, stop)
    resumed = StreamLoader(source, size, "training", RANDOMNESS)
    resumed.load_state_dict(interrupted.state_dict())
    assert are_equal(list(resumed.mini_batches(1, stop)), expected[stop:])


def test_reading_the_first_mini_batch_does_not_change_the_position():
    loader = loader_of(STREAMS["mapped"]())
    read_some(loader, 3)
    before = loader.state_dict()
    first = loader.first_mini_batch()
    assert loader.state_dict() == before
    assert _equal(first, next(loader.mini_batches(1)))


def test_the_first_mini_batch_may_be_in_a_later_shard():
    data = IterableDataset.from_generator(
        lambda files: ({"n": n} for file in files for n in file), gen_kwargs={"files": [[], [4, 5]]}
    )
    assert loader_of(data).first_mini_batch()["n"].tolist() == [4, 5]


def test_reading_does_not_change_the_global_random_streams():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    list(loader_of(STREAMS["mapped"]()))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collate_function_is_called_with_a_list_of_examples_and_may_draw(workers):
    def collate(examples):
        assert isinstance(examples, list)
        assert examples[0].keys() == {"x", "n", "name", "even"}
        assert isinstance(examples[0]["n"], torch.Tensor)
        return {"n": torch.stack([example["n"] for example in examples]) + torch.rand(1)}

    batches = list(loader_of(stream(), collate=collate, num_workers=workers))
    assert are_equal(batches, list(loader_of(stream(), collate=collate)))


def test_files_are_streamed(tmp_path):
    for part in range(4):
        rows().shard(4, part).to_parquet(tmp_path / f"{part}.parquet")
        rows().shard(4, part).to_json(tmp_path / f"{part}.json")
    for kind in ("parquet", "json"):
        files = [str(tmp_path / f"{part}.{kind}") for part in range(4)]
        data = load_dataset(kind, data_files=files, split="train", streaming=True, cache_dir=str(tmp_path / "cache"))
        interrupted = loader_of(data.map(augment))
        expected = list(interrupted)
        assert sorted(numbers(expected)) == list(range(38))
        read_some(interrupted, 9)
        assert all(state is not None for state in interrupted.state_dict()["states"])
        resumed = loader_of(data.map(augment), num_workers=2)
        resumed.load_state_dict(interrupted.state_dict())
        assert are_equal(list(resumed.mini_batches(1, 9)), expected[9:])


@pytest.mark.parametrize("iterations", [None, 4])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_empty_stream_raises_an_error(iterations, workers):
    data = stream(shards=1).filter(lambda example: False)
    loader = loader_of(data, iterations_per_epoch=iterations, num_workers=workers)
    with pytest.raises(DataError, match="The stream of training is empty"):
        loader.first_mini_batch()
    with pytest.raises(DataError, match="The stream of training is empty"):
        list(loader)


def test_a_stream_has_no_length():
    loader = loader_of(stream())
    with pytest.raises(TypeError, match="a StreamLoader without iterations_per_epoch has no len"):
        len(loader)
    assert loader


def test_an_error_while_reading_names_the_shard_and_the_mini_batch():
    def fail(example):
        if example["n"] == 14:
            raise KeyError("image")
        return example

    with pytest.raises(KeyError) as caught:
        list(loader_of(stream().map(fail)))
    assert caught.value.__notes__ == ["while reading mini-batch 2 of shard 1 of the stream of training, pass 1"]
    with pytest.raises(KeyError, match="mini-batch 2 of shard 1 of the stream of training, pass 1"):
        list(loader_of(stream().map(fail), num_workers=2))


def test_examples_with_different_keys_are_refused():
    data = IterableDataset.from_generator(lambda: iter([{"a": 1}, {"b": 2}]))
    with pytest.raises(DataError, match=r"the same keys: expected \['a'\], got \['b'\]"):
        list(loader_of(data))


def test_a_format_of_tables_is_refused():
    with pytest.raises(DataError, match="has to be a dictionary of columns, but got Table"):
        list(loader_of(stream().with_format("arrow")))


def test_a_collate_function_may_return_anything_but_none():
    assert len(next(iter(loader_of(stream(), collate=lambda examples: examples)))) == 3
    with pytest.raises(DataError, match="dataloader_collate_function has to return a mini-batch, but returned None"):
        list(loader_of(stream(), collate=lambda examples: None))


@pytest.mark.parametrize(
    "other", [lambda: loader_of(stream(shards=2)), lambda: StreamLoader(stream(), 4, "training", RANDOMNESS)]
)
def test_a_state_of_another_stream_is_refused_in_the_middle_of_an_epoch(other):
    interrupted = loader_of(stream())
    read_some(interrupted, 2)
    resumed = other()
    resumed.load_state_dict(interrupted.state_dict())
    with pytest.raises(DataError, match=r"can't resume from the checkpoint.*4 shards and mini-batches of 3"):
        next(resumed.mini_batches(1, 2))


@pytest.mark.parametrize("state", [{}, {"examples_iterable": None}, {"examples_iterable": {"type": "Unknown"}}])
def test_a_state_of_an_unknown_type_does_not_resume_exactly(state):
    assert not resumes_exactly(state, 3)
