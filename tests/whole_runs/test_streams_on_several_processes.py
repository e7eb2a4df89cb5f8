"""A run on streams has the same bits on any number of processes, and resumes on another number of them."""

import random
from functools import cache
from pathlib import Path

import pytest
import several
import torch
from datasets import IterableDataset
from divided import in_suite
from tiny import StopAt, TinySession, config_with, make_dataset

from torchbase import ValidationDatasetsDict
from torchbase.files.bitwise import different_values

PARTS = 4
EVEN, UNEVEN = (6,) * 8, (2, 6, 0, 6, 2, 8, 4, 6)  # the lengths of the shards; of the latter, part 0 ends first


ROWS = list(make_dataset(64))


def generate(shards):
    for first, length in shards:
        yield from ROWS[first : first + length]


def augment(example):
    return {"x": [value + 0.1 * random.random() + 0.1 * torch.rand(1).item() for value in example["x"]]}


def stream_of(lengths):
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    shards = list(zip(starts, lengths, strict=True))
    return IterableDataset.from_generator(generate, gen_kwargs={"shards": shards}).map(augment)


def session_on(lengths):
    class StreamSession(TinySession):
        def init_datasets(self):
            return stream_of(lengths), ValidationDatasetsDict(
                datasets=(stream_of(lengths[::-1]), stream_of((8, 6))),  # the latter has fewer shards than parts
                only_for_demo=(False, True),
                names=("valid", "demo"),
            )

    return StreamSession


def train(index, parent, lengths, stop=None, tag=None, **session):
    config = config_with(mini_batch_size=8, mini_batch_parts=PARTS, **session)
    resumed = {} if tag is None else {"create_run_dir_afresh": False, "source_run_dir_tag": tag}
    trained = session_on(lengths)(config, parent, **resumed)
    if stop is not None:
        trained.register(StopAt(stop))
    summary = trained()
    weights = {name: value.clone() for name, value in trained.network.state_dict().items()}
    return weights, summary.averages, Path(trained.run_dir).name


def trained_on(processes, parent, lengths, *arguments, **session):
    def call(index):
        return train(index, parent, lengths, *arguments, **session)

    first, *others = several.values_of(processes, call)
    for other in others:
        assert different_values(other[0], first[0]) == []
    return first


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Trains in this process alone, once for each of its arguments."""

    @cache
    def whole(lengths, **session):
        return train(0, tmp_path_factory.mktemp("whole"), lengths, **session)

    return whole


@pytest.mark.parametrize("lengths", in_suite([(EVEN,), (UNEVEN,)], (UNEVEN,)))
@pytest.mark.parametrize(("processes", "workers", "iterations"), [(2, 2, None), (3, 0, 5)])
def test_a_run_on_streams_has_the_same_bits_on_any_number_of_processes(
    tmp_path, whole, lengths, processes, workers, iterations
):
    weights, averages, _ = whole(lengths, iterations_per_epoch=iterations)
    session = {"iterations_per_epoch": iterations, "dataloader_num_workers": workers}
    other_weights, other_averages, _ = trained_on(processes, tmp_path, lengths, **session)
    assert different_values(other_weights, weights) == []
    assert other_averages == averages


@pytest.mark.parametrize("lengths", in_suite([(EVEN,), (UNEVEN,)], (UNEVEN,)))
@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 1)])
def test_a_run_on_streams_resumes_on_another_number_of_processes(tmp_path, whole, lengths, before, after):
    weights, averages, _ = whole(lengths, iterations_per_epoch=None)
    tag = trained_on(before, tmp_path, lengths, 3)[2]
    other_weights, other_averages, _ = trained_on(after, tmp_path, lengths, None, tag)
    assert different_values(other_weights, weights) == []
    assert other_averages == averages
