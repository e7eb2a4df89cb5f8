"""Each process reads the shards of its own parts; together they read what one process reads."""

import logging
import os
import pickle
import random
from collections import Counter
from itertools import islice, zip_longest

import in_turns
import numpy as np
import pytest
import several
import torch
from datasets import IterableDataset
from divided import in_suite
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data import stream_shards
from torchbase.data.parts import PartsToRead, SplitMiniBatch, samples_of_parts
from torchbase.data.phase_loader import phase_loader
from torchbase.data.stream_sharing import checksum_of
from torchbase.data.streaming import StreamLoader
from torchbase.distributed.blocks import share_out
from torchbase.distributed.joining import join
from torchbase.errors import DataError, ProcessesDifferError
from torchbase.files.bitwise import different_values
from torchbase.randomness.run_randomness import Randomness

RANDOMNESS = Randomness(7)
READ = []  # the numbers that the generator of a stream has yielded in this process


def generate(files):
    for file in files:
        for n in file:
            READ.append(n)
            yield {"n": n}


def augment(example):
    return {"noise": example["n"] + random.random() + torch.rand(1).item()}


def files_of(lengths):
    """The numbers of each shard, all different."""
    ends = [sum(lengths[: index + 1]) for index in range(len(lengths))]
    return [list(range(end - length, end)) for end, length in zip(ends, lengths, strict=True)]


def stream_of(lengths, buffer=None):
    data = IterableDataset.from_generator(generate, gen_kwargs={"files": files_of(lengths)})
    if buffer is not None:
        data = data.shuffle(seed=3, buffer_size=buffer, max_buffer_input_shards=1)
    return data.map(augment)


def loader_of(processes, data, size, parts, **options):
    own = share_out(parts, processes.count)[processes.index].parts
    return StreamLoader(
        data, size, "training", RANDOMNESS, parts=PartsToRead(parts, own), processes=processes, **options
    )


def read(processes, data, size, parts, options=None, ranges=((1, 0, None),), state=None):
    """The mini-batches of some epochs, each from a position to a position, and the state after them."""
    loader = loader_of(processes, data, size, parts, **(options or {}))
    if state is not None:
        loader.load_state_dict(state)
    batches = []
    for epoch, start, stop in ranges:
        batches += islice(loader.mini_batches(epoch, start), None if stop is None else stop - start)
    state = loader.state_dict()
    loader.end_workers()
    return batches, state


def read_forked(index, *arguments):
    return read(join(), *arguments)


def together(of_processes, parts, is_collated=False):
    """By mini-batch and part, what several processes have read. Checks what each of them is told of the others."""
    joined = []
    for splits in zip(*[batches for batches, _ in of_processes], strict=True):
        assert all(isinstance(split, SplitMiniBatch) for split in splits)
        for split, block in zip(splits, share_out(parts, len(splits)), strict=True):
            assert all(part.number in block.parts for part in split.parts)
        batch = {part.number: part.mini_batch for split in splits for part in split.parts}
        assert list(batch) == sorted(batch)
        samples = sum(len(mini_batch["n"]) for mini_batch in batch.values())
        assert {split.samples for split in splits} == {None if is_collated else samples}
        assert {split.with_samples[0] for split in splits} == {min(batch)}
        joined.append(batch)
    assert all(state == of_processes[0][1] for _, state in of_processes)
    return joined


def numbers_of(batches):
    return [{part: mini_batch["n"].tolist() for part, mini_batch in batch.items()} for batch in batches]


def expected_numbers(lengths, size, parts):
    """The mini-batches of a pass without shuffling, by the rule: the shards of a part take turns."""
    of_parts = []
    for part, rows in enumerate(samples_of_parts(size, parts)):
        pieces = []
        for shard in range(part, len(lengths), parts):
            numbers = files_of(lengths)[shard]
            for position, start in enumerate(range(0, len(numbers), len(rows))):
                pieces.append((position, shard, numbers[start : start + len(rows)]))
        of_parts.append([piece for _, _, piece in sorted(pieces)])
    return [
        {part: piece for part, piece in enumerate(pieces) if piece is not None} for pieces in zip_longest(*of_parts)
    ]


streams = st.lists(st.integers(0, 9), min_size=2, max_size=7).filter(any)  # the lengths of shards


@settings(max_examples=40, deadline=None)
@given(streams, st.data())
def test_any_number_of_processes_reads_each_row_once_in_the_same_parts(lengths, data):
    size = data.draw(st.integers(2, 8))
    parts = data.draw(st.integers(2, min(size, len(lengths))))
    processes = data.draw(st.integers(1, parts))
    buffer = data.draw(st.none() | st.integers(1, 5))
    source = stream_of(lengths, buffer)
    whole = together(in_turns.values_of(1, read, source, size, parts), parts)
    shared = together(in_turns.values_of(processes, read, source, size, parts), parts)
    assert different_values(shared, whole) == []
    rows = [n for batch in numbers_of(whole) for numbers in batch.values() for n in numbers]
    assert sorted(rows) == list(range(sum(lengths)))
    if buffer is None:
        assert numbers_of(whole) == expected_numbers(lengths, size, parts)


@settings(max_examples=25, deadline=None)
@given(streams, st.data())
def test_a_state_resumes_anywhere_on_another_number_of_processes(lengths, data):
    size = data.draw(st.integers(2, 6))
    parts = data.draw(st.integers(2, min(size, len(lengths))))
    before, after = data.draw(st.integers(1, parts)), data.draw(st.integers(1, parts))
    iterations = data.draw(st.none() | st.integers(1, 7))
    buffer = data.draw(st.none() | st.integers(1, 5))
    source, options = stream_of(lengths, buffer), {"iterations_per_epoch": iterations}
    whole = together(in_turns.values_of(1, read, source, size, parts, options, ((1, 0, None), (2, 0, None))), parts)
    length = len(whole) // 2 if iterations is not None else len(expected_numbers(lengths, size, parts))
    stop = data.draw(st.integers(0, length))
    stopped = in_turns.values_of(before, read, source, size, parts, options, ((1, 0, stop),))
    alone = in_turns.values_of(1, read, source, size, parts, options, ((1, 0, stop),))
    assert stopped[0][1] == alone[0][1]  # the state is that of one process
    for state in (stopped[0][1], None):
        rest = in_turns.values_of(after, read, source, size, parts, options, ((1, stop, None), (2, 0, None)), state)
        assert different_values(together(stopped, parts) + together(rest, parts), whole) == []


SHARED = [
    ([6, 4, 6, 4, 6, 4, 6, 4], 6, 4),
    ([7, 0, 3, 1, 8, 0, 2], 5, 3),
    ([9, 9, 0, 0, 0, 0, 0, 0], 8, 4),  # the parts of some processes are empty from the start
    ([0, 0, 0, 5], 7, 4),
]
WITH_WORKERS = [(*one, processes, workers) for one in SHARED for processes in (2, 3) for workers in (0, 2)]


@pytest.mark.parametrize(
    ("lengths", "size", "parts", "processes", "workers"),
    in_suite(WITH_WORKERS, (*SHARED[0], 2, 0), (*SHARED[1], 2, 2), (*SHARED[2], 3, 0), (*SHARED[3], 3, 0)),
)
def test_forked_processes_and_their_workers_read_what_one_process_reads(lengths, size, parts, processes, workers):
    ranges = ((1, 0, None), (2, 0, 1), (2, 1, None))
    for buffer, iterations in ((None, None), (3, 3)):
        options = {"iterations_per_epoch": iterations}
        source = stream_of(lengths, buffer)
        whole = together(in_turns.values_of(1, read, source, size, parts, options, ranges), parts)
        options["num_workers"] = workers
        shared = several.values_of(processes, read_forked, source, size, parts, options, ranges)
        assert different_values(together(shared, parts), whole) == []


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 2), (2, 3)])
def test_forked_processes_resume_from_the_state_of_another_number_of_processes(before, after):
    source, size, parts, options = stream_of([7, 0, 3, 1, 8, 9, 2], 4), 5, 3, {"iterations_per_epoch": 4}
    ranges = ((1, 0, None), (2, 0, None), (3, 0, None))
    whole = together(in_turns.values_of(1, read, source, size, parts, options, ranges), parts)
    options["num_workers"] = 1
    stopped = several.values_of(before, read_forked, source, size, parts, options, ((1, 0, None), (2, 0, 2)))
    rest = several.values_of(
        after, read_forked, source, size, parts, options, ((2, 2, None), (3, 0, None)), stopped[0][1]
    )
    assert different_values(together(stopped, parts) + together(rest, parts), whole) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_opens_the_shards_of_its_own_parts_only(workers, tmp_path):
    lengths, size, parts = [5, 3, 6, 4, 7, 2, 5, 0], 6, 4

    def record(example):
        (tmp_path / f"{example['n']}-{os.getpid()}").touch()
        return example

    def pass_of(index):
        loader = loader_of(join(), stream_of(lengths).map(record), size, parts, num_workers=workers)
        rows = [n for batch in loader for part in batch.parts for n in part.mini_batch["n"].tolist()]
        loader.end_workers()
        return rows

    for processes in (2, 4):
        of_processes = several.values_of(processes, pass_of)
        for rows, block in zip(of_processes, share_out(parts, processes), strict=True):
            own = [n for shard, file in enumerate(files_of(lengths)) if shard % parts in block.parts for n in file]
            assert sorted(rows) == own
        times = Counter(int(path.name.split("-")[0]) for path in tmp_path.iterdir())
        assert sorted(times) == list(range(sum(lengths)))
        # In all processes together, each row is read once, except the first mini-batch, which is compared.
        assert {n for n, count in times.items() if count > 1} <= {0, 1}
        for path in tmp_path.iterdir():
            path.unlink()


@settings(max_examples=40, deadline=None)
@given(streams, st.data())
def test_nothing_is_read_ahead_without_workers(lengths, data):
    size = data.draw(st.integers(1, 6))
    parts = data.draw(st.integers(1, min(size, len(lengths))))
    loader = StreamLoader(stream_of(lengths), size, "training", RANDOMNESS, parts=PartsToRead(parts, range(parts)))
    READ.clear()
    returned = []
    for batch in loader:
        pieces = [part.mini_batch for part in batch.parts] if parts > 1 else [batch]
        returned += [n for piece in pieces for n in piece["n"].tolist()]
        assert sorted(READ) == sorted(returned)


def first(processes, lengths, size, parts):
    loader = loader_of(processes, stream_of(lengths), size, parts)
    READ.clear()
    batch = loader.first_mini_batch()
    return batch["n"].tolist(), batch["noise"].tolist(), list(READ), processes.gathered


@pytest.mark.parametrize("lengths", [[4, 5, 3, 2], [0, 5, 3, 2], [0, 2, 0, 6], [0, 0, 0, 3]])
def test_the_first_mini_batch_is_the_same_on_each_process_without_communication(lengths):
    size, parts = 5, 2
    batch = in_turns.values_of(1, read, stream_of(lengths), size, parts)[0][0][0]
    expected = batch.parts[0].mini_batch
    for processes in (1, 2):
        for numbers, noise, rows, gathered in in_turns.values_of(processes, first, lengths, size, parts):
            assert numbers == expected["n"].tolist()
            assert noise == expected["noise"].tolist()
            assert rows == numbers
            assert gathered == 0


def test_a_process_alone_with_one_part_reads_whole_mini_batches():
    whole = list(StreamLoader(stream_of([5, 4, 7]), 3, "training", RANDOMNESS))
    assert [batch["n"].tolist() for batch in whole] == [
        [0, 1, 2],
        [5, 6, 7],
        [9, 10, 11],
        [3, 4],
        [8],
        [12, 13, 14],
        [15],
    ]


def test_with_a_collate_function_the_sizes_are_unknown_and_its_random_numbers_belong_to_the_part():
    def collate(examples):
        n = torch.stack([example["n"] for example in examples])
        return {"n": n, "noise": torch.rand(len(n))}

    source, options = stream_of([5, 8, 3, 1, 0, 4]), {"collate": collate}
    whole, shared = (in_turns.values_of(count, read, source, 5, 3, options) for count in (1, 2))
    assert different_values(together(shared, 3, is_collated=True), together(whole, 3, is_collated=True)) == []


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("iterations", [None, 2])
def test_an_empty_stream_is_an_error_on_each_process(processes, iterations):
    def look(processes):
        loader = loader_of(processes, stream_of([0, 0, 0]), 4, 2, iterations_per_epoch=iterations)
        with pytest.raises(DataError, match="The stream of training is empty"):
            loader.first_mini_batch()
        with pytest.raises(DataError, match="The stream of training is empty"):
            list(loader)

    in_turns.values_of(processes, look)


def test_a_pass_that_a_process_resumes_at_its_end_is_not_empty():
    source, options = stream_of([4, 0]), {"iterations_per_epoch": 2}
    stopped = in_turns.values_of(2, read, source, 4, 2, options, ((1, 0, 2),))
    rest = in_turns.values_of(2, read, source, 4, 2, options, ((2, 0, None),), stopped[0][1])
    assert numbers_of(together(rest, 2)) == [{0: [0, 1]}, {0: [2, 3]}]


def test_a_state_of_another_number_of_parts_is_refused():
    source = stream_of([6, 6, 6, 6])
    for saved, found, text in (
        (4, 2, "in 4 parts, but here they are read in 2 parts"),
        (1, 2, "1 part, but"),
        (2, 1, "1 part. To fix, resume with session.mini_batch_parts = 2"),
    ):
        state = in_turns.values_of(1, read, source, 8, saved, {}, ((1, 0, 1),))[0][1]
        with pytest.raises(DataError, match=text):
            in_turns.values_of(min(found, 2), read, source, 8, found, {}, ((1, 1, None),), state)


@pytest.mark.parametrize("change", [{"size": 6}, {"lengths": [6, 6, 6, 6, 6]}])
def test_a_state_of_another_stream_is_refused(change):
    state = in_turns.values_of(1, read, stream_of([6, 6, 6, 6]), 8, 2, {}, ((1, 0, 1),))[0][1]
    source, size = stream_of(change.get("lengths", [6, 6, 6, 6])), change.get("size", 8)
    with pytest.raises(DataError, match="4 shards and mini-batches of 8, but the stream has"):
        in_turns.values_of(2, read, source, size, 2, {}, ((1, 1, None),), state)


def test_a_stream_with_fewer_shards_than_parts_is_read_whole_by_each_process_with_one_warning(caplog):
    with caplog.at_level(logging.WARNING, "torchbase"):
        whole = in_turns.values_of(1, read, stream_of([7, 4]), 6, 3)
    assert caplog.text == ""
    assert [batch["n"].tolist() for batch in whole[0][0]] == [[0, 1, 2, 3, 4, 5], [7, 8, 9, 10], [6]]
    with caplog.at_level(logging.WARNING, "torchbase"):
        shared = in_turns.values_of(3, read, stream_of([7, 4], buffer=3), 6, 3)
    (record,) = caplog.records
    assert "The stream of training has 2 shards, fewer than the 3 parts of a mini-batch" in record.message
    assert "at least 3, best a multiple of it" in record.message
    for batches, state in shared:
        assert different_values(batches, shared[0][0]) == []
        assert state == shared[0][1]
        assert sum(state["given"]) == 3


@pytest.mark.parametrize("shards", [1, 4])  # read whole by each process, and in parts
@pytest.mark.parametrize("has_rehearsal", [False, True])
def test_a_stream_that_is_shuffled_in_another_order_on_each_process_is_an_error(shards, has_rehearsal):
    def differ(processes):
        data = IterableDataset.from_generator(generate, gen_kwargs={"files": files_of([40] * shards)})
        loader = loader_of(processes, data.shuffle(seed=processes.index, buffer_size=40), 8, 2)
        if has_rehearsal:
            loader.first_mini_batch()
        with pytest.raises(ProcessesDifferError, match="training begins with other samples on process 1 than on"):
            list(loader)

    in_turns.values_of(2, differ)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_checksum_of_a_mini_batch_depends_on_each_value(data):
    numbers = st.lists(st.integers(0, 3), min_size=1, max_size=4)
    kinds = {
        "tensor": torch.tensor,
        "strided": lambda values: torch.tensor([values, values]).T,
        "scalar": lambda values: torch.tensor(hash(tuple(values))),
        "array": np.array,
        "strings": lambda values: [str(value) for value in values],
        "objects": lambda values: np.array([str(value) for value in values], dtype=object),
        "nested": lambda values: {"a": [(value, None) for value in values]},
    }
    kind = kinds[data.draw(st.sampled_from(sorted(kinds)))]
    first, second = data.draw(numbers), data.draw(numbers)
    assert checksum_of({"x": kind(first)}) == checksum_of(pickle.loads(pickle.dumps({"x": kind(first)})))
    assert (checksum_of({"x": kind(first)}) == checksum_of({"x": kind(second)})) == (first == second)


class Settings:
    mini_batch_size = 6
    validation_mini_batch_size = 2
    iterations_per_epoch = None
    drop_last = False
    dataloader_num_workers = 0


@pytest.mark.parametrize("processes", [1, 3, 4])
def test_parts_without_samples_leave_no_shard_unread(processes):
    def validate(processes):
        parts = PartsToRead(4, share_out(4, processes.count)[processes.index].parts)
        arguments = {"is_training": False, "parts": parts, "processes": processes}
        loader = phase_loader(stream_of([3, 2, 4, 1]), "validation-valid", RANDOMNESS, Settings(), **arguments)
        batches = list(loader)
        assert all(batch.samples for batch in batches)
        return [n for batch in batches for part in batch.parts for n in part.mini_batch["n"].tolist()]

    rows = [n for own in in_turns.values_of(processes, validate) for n in own]
    assert sorted(rows) == list(range(10))


def test_more_parts_than_samples_are_refused_in_training():
    with pytest.raises(DataError, match="has 6 samples, fewer than its 7 parts"):
        phase_loader(
            stream_of([3] * 8), "training", RANDOMNESS, Settings(), is_training=True, parts=PartsToRead(7, range(7))
        )


@pytest.mark.parametrize(("parts", "expected"), [(1, 8), (2, 8), (3, 6), (5, 5), (11, 11)])
def test_combined_shards_are_shared_out_evenly(monkeypatch, parts, expected):
    monkeypatch.setattr(stream_shards, "SHARDS_AT_ONCE", 8)
    source = stream_shards.StreamSource(stream_of([2] * 30), 12, "training", RANDOMNESS, None, parts)
    assert source.shards == expected
    assert {len(source.shards_of(part)) for part in range(parts)} == {expected // parts}
    batches, _ = in_turns.values_of(1, read, stream_of([2] * 30), 12, parts)[0]
    pieces = [part.mini_batch for batch in batches for part in batch.parts] if parts > 1 else batches
    assert sorted(n for piece in pieces for n in piece["n"].tolist()) == list(range(60))


def test_the_log_says_how_many_workers_share_the_shards_of_the_parts(caplog):
    with caplog.at_level(logging.INFO, "torchbase"):
        options = {"num_workers": 4}
        loader_of(in_turns.InTurns(0, 1, None), stream_of([3] * 7), 8, 2, **options)
    assert "training uses 2 of 4 workers: its stream has 7 shards for 2 parts of the mini-batches" in caplog.text
