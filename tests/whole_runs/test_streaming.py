import logging
import multiprocessing
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDatasetDict, load_dataset
from divided import in_suite
from tiny import StopAt, TinySession, config_with, make_dataset

from torchbase import ValidationDatasetsDict, hookimpl
from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.errors import DataError


def weights_of(session):
    return {name: value.clone() for name, value in session.network.state_dict().items()}


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def augment(example):
    noise = random.random() + np.random.rand() + torch.rand(1).item()
    return {"x": [value + 0.1 * noise for value in example["x"]]}


class StreamSession(TinySession):
    shuffled = False

    def init_datasets(self):
        training = make_dataset(24).to_iterable_dataset(num_shards=4)  # 8 mini-batches, of 4 and of 2
        if self.shuffled:
            training = training.shuffle(seed=5, buffer_size=3, max_buffer_input_shards=1)
        valid, demo = make_dataset(10, 0.1), make_dataset(6, 5.0)
        return training.map(augment), ValidationDatasetsDict(
            datasets=(valid.to_iterable_dataset(num_shards=2).map(augment), demo),
            only_for_demo=(False, True),
            names=("valid", "demo"),
        )


class ShuffledSession(StreamSession):
    shuffled = True


def stop_and_resume(kind, tmp_path, stop, then=None, **session):
    stopped = kind(config_with(**session), tmp_path)
    stopped.register(stop)
    assert stopped().stop_reason == "for the test"
    resumed = kind(
        config_with(**{**session, **(then or {})}),
        tmp_path,
        create_run_dir_afresh=False,
        source_run_dir_tag=Path(stopped.run_dir).name,
    )
    return resumed, resumed()


def test_a_session_trains_on_streams_and_datasets(tmp_path):
    session = StreamSession(config_with(), tmp_path)
    summary = session()
    assert summary.epochs_done == 2
    assert summary.best_losses.keys() == {"validation-valid", "validation-demo"}
    saved = newest_whole_checkpoint(Path(session.run_dir) / "states")
    assert saved.iteration == 16
    assert saved.parts["training"]["run"]["loader"]["given"] == [2, 2, 2, 2]
    with pytest.raises(TypeError, match="has no len"):
        len(session.dataloader_train)


def test_without_a_stream_no_state_of_a_loader_is_saved(tmp_path):
    session = TinySession(config_with(num_epochs=1), tmp_path)
    session()
    assert "loaders" not in newest_whole_checkpoint(Path(session.run_dir) / "states").parts


@pytest.mark.parametrize("kind", [StreamSession, ShuffledSession])
def test_a_run_stopped_after_any_iteration_resumes_exactly(tmp_path, kind):
    whole = kind(config_with(), tmp_path)
    expected = whole()
    for stop in (1, 4, 7, 8, 9, 16):
        resumed, summary = stop_and_resume(kind, tmp_path, StopAt(stop))
        assert are_equal(weights_of(whole), weights_of(resumed))
        assert summary.averages == expected.averages
        assert summary.best_losses == expected.best_losses


KINDS = [StreamSession, ShuffledSession]
WORKERS = [(kind, *workers) for kind in KINDS for workers in ((2, 0), (0, 2), (2, 2))]


@pytest.mark.parametrize(
    ("kind", "workers", "then"),
    in_suite(WORKERS, (StreamSession, 2, 0), (StreamSession, 0, 2), (ShuffledSession, 2, 2)),
)
def test_a_run_resumes_exactly_with_any_number_of_workers(tmp_path, kind, workers, then):
    whole = kind(config_with(), tmp_path)
    whole()
    resumed, _ = stop_and_resume(
        kind, tmp_path, StopAt(8), {"dataloader_num_workers": then}, dataloader_num_workers=workers
    )
    assert are_equal(weights_of(whole), weights_of(resumed))


@pytest.mark.parametrize("kind", [TinySession, StreamSession])
def test_no_worker_outlives_the_run(tmp_path, kind):
    session = kind(config_with(dataloader_num_workers=2, num_epochs=1), tmp_path)
    session()
    assert multiprocessing.active_children() == []


def test_a_run_stopped_during_the_validation_on_a_stream_repeats_that_validation(tmp_path):
    whole = StreamSession(config_with(), tmp_path)
    expected = whole()
    resumed, summary = stop_and_resume(StreamSession, tmp_path, StopAt(2, "validation-valid"))
    assert are_equal(weights_of(whole), weights_of(resumed))
    assert summary.averages == expected.averages


@pytest.mark.parametrize(
    ("kind", "iterations"),
    in_suite(list(product(KINDS, (5, 11))), (StreamSession, 5), (ShuffledSession, 11)),
)
def test_epochs_with_a_number_of_iterations_resume_exactly(tmp_path, kind, iterations):
    config = {"iterations_per_epoch": iterations, "num_epochs": 3}
    whole = kind(config_with(**config), tmp_path)
    whole()
    for stop in (iterations - 1, iterations, iterations + 2):
        resumed, summary = stop_and_resume(kind, tmp_path, StopAt(stop), **config)
        assert summary.epochs_done == 3
        assert are_equal(weights_of(whole), weights_of(resumed))
    saved = newest_whole_checkpoint(Path(whole.run_dir) / "states")
    assert saved.iteration == 3 * iterations
    assert saved.parts["training"]["run"]["loader"]["pass_number"] == {5: 2, 11: 5}[iterations]


def test_a_run_resumes_from_a_checkpoint_in_the_middle_of_an_epoch(tmp_path):
    class Failing(StreamSession):
        def forward_pass(self, mini_batch):
            if self.hooks["fails"].iteration == 10:
                raise KeyError("image")
            return super().forward_pass(mini_batch)

    class Fails:
        iteration = 0

        @hookimpl
        def on_iteration_start(self, run):
            self.iteration = run.progress.iterations + 1

    config = config_with(checkpoint_every_n_iterations=4, dataloader_num_workers=2)
    failed = Failing(config, tmp_path)
    failed.register(Fails())
    with pytest.raises(KeyError):
        failed()
    resumed = StreamSession(config, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(failed.run_dir).name)
    resumed()
    whole = StreamSession(config_with(), tmp_path)
    whole()
    assert are_equal(weights_of(whole), weights_of(resumed))


def test_a_run_on_streamed_files_resumes_exactly(tmp_path):
    for part in range(4):
        make_dataset(24).shard(4, part).to_parquet(tmp_path / f"{part}.parquet")

    class FileSession(StreamSession):
        def init_datasets(self):
            files = [str(tmp_path / f"{part}.parquet") for part in range(4)]
            both = load_dataset(
                "parquet", data_files={"train": files, "valid": files[:1]}, streaming=True, cache_dir=str(tmp_path)
            )
            return both["train"].map(augment), ValidationDatasetsDict(
                datasets=(both["valid"],), only_for_demo=(False,), names=("valid",)
            )

    runs = tmp_path / "runs"
    whole = FileSession(config_with(), runs)
    whole()
    resumed, _ = stop_and_resume(FileSession, runs, StopAt(3), {"dataloader_num_workers": 2})
    assert are_equal(weights_of(whole), weights_of(resumed))


def test_reading_again_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "torchbase"):
        stop_and_resume(StreamSession, tmp_path, StopAt(3))
    assert "has no state" not in caplog.text
    with caplog.at_level(logging.INFO, "torchbase"):
        stop_and_resume(ShuffledSession, tmp_path, StopAt(3))
    assert "The stream of training has no state" in caplog.text


def test_resuming_with_a_dataset_instead_of_a_stream_is_logged(tmp_path, caplog):
    stopped = StreamSession(config_with(num_epochs=1), tmp_path)
    stopped()
    tag = Path(stopped.run_dir).name
    TinySession(config_with(), tmp_path, create_run_dir_afresh=False, source_run_dir_tag=tag)()
    assert "has a state of the training loader, but this session's loader can't restore one" in caplog.text


def test_an_empty_stream_is_refused_before_training(tmp_path):
    class Empty(StreamSession):
        def init_datasets(self):
            training, _ = super().init_datasets()
            empty = training.filter(lambda example: False)
            return training, ValidationDatasetsDict(datasets=(empty,), only_for_demo=(False,), names=("valid",))

    with pytest.raises(DataError, match="The stream of validation-valid is empty"):
        Empty(config_with(), tmp_path)()
    assert list(tmp_path.iterdir()) == []


def test_a_dictionary_of_streams_instead_of_a_stream_is_refused():
    splits = IterableDatasetDict({"valid": Dataset.from_dict({"x": [1]}).to_iterable_dataset()})
    with pytest.raises(DataError, match=r"but is an IterableDatasetDict.*pass one of its splits: 'valid'"):
        ValidationDatasetsDict(datasets=(splits,), only_for_demo=(False,), names=("valid",))
    with pytest.raises(DataError, match="datasets has to be a tuple or list, but got a single IterableDataset"):
        ValidationDatasetsDict(datasets=splits["valid"], only_for_demo=(False,), names=("valid",))
