import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny import CONFIG, TinySession, config_with, make_dataset

from torchbase import Phase, Run
from torchbase.errors import NonFiniteError
from torchbase.hooks.bad_mini_batches import MAXIMUM_SAVED, save_bad_mini_batch
from torchbase.run_directory.directory import RunDirectory
from torchbase.run_directory.names import BAD_MINI_BATCHES_FOLDER


def run_with(loader, tmp_path, epoch=1):
    directory = RunDirectory.create(tmp_path / "others")
    return Run(training=Phase("training", loader, is_training=True), max_epochs=3, epoch=epoch, run_directory=directory)


def saved_in(run):
    folder = run.run_directory.path / BAD_MINI_BATCHES_FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


class OneMiniBatch:
    """A custom loader."""

    def __init__(self, mini_batch):
        self.mini_batch = mini_batch

    def __iter__(self):
        yield self.mini_batch

    def read(self, epoch, position):
        return [3, 1], self.mini_batch


@pytest.mark.parametrize(("epoch", "mini_batch", "size"), [(1, 1, 4), (2, 3, 4), (2, 5, 2)])
def test_the_saved_mini_batch_is_the_mini_batch_of_the_shuffled_loader(tmp_path, epoch, mini_batch, size):
    session = TinySession(CONFIG, tmp_path)
    expected = list(session.dataloader_train.mini_batches(epoch))[mini_batch - 1]
    run = run_with(session.dataloader_train, tmp_path, epoch)
    message = save_bad_mini_batch(run, run.training, mini_batch, "its loss is nan")
    file = (
        run.run_directory.path / BAD_MINI_BATCHES_FOLDER / f"training-epoch-{epoch:06d}-mini-batch-{mini_batch:08d}.pth"
    )
    saved = torch.load(file, weights_only=True)
    assert message == f"Its samples are the rows {saved['rows']} of training; it is saved in {file}."
    assert [saved[name] for name in ("phase", "epoch", "mini_batch", "reason")] == [
        "training",
        epoch,
        mini_batch,
        "its loss is nan",
    ]
    assert len(saved["rows"]) == size
    assert saved["values"].keys() == expected.keys()
    assert torch.equal(saved["values"]["x"], expected["x"])
    assert torch.equal(saved["values"]["y"], expected["y"])
    assert saved["values"]["name"] == expected["name"] == [str(row) for row in saved["rows"]]
    assert torch.equal(saved["values"]["x"], torch.tensor([session.dataset_train[row]["x"] for row in saved["rows"]]))


def test_the_first_ten_mini_batches_of_a_run_are_saved(tmp_path):
    run = run_with(TinySession(CONFIG, tmp_path).dataloader_train, tmp_path)
    messages = []
    for number in range(MAXIMUM_SAVED + 2):
        run.epoch = 1 + number // 5
        messages.append(save_bad_mini_batch(run, run.training, 1 + number % 5, "its loss is nan"))
    folder = run.run_directory.path / BAD_MINI_BATCHES_FOLDER
    assert all("it is saved in" in message for message in messages[:10])
    assert all(message.endswith(f"because {folder} already holds 10 files.") for message in messages[10:])
    assert len(saved_in(run)) == 10
    run.epoch = 2
    assert "it is saved in" in save_bad_mini_batch(run, run.training, 5, "again")  # this file is among the ten
    assert torch.load(folder / saved_in(run)[-1], weights_only=True)["reason"] == "again"


@pytest.mark.parametrize(
    "loader",
    [[{"x": torch.zeros(1)}], torch.utils.data.DataLoader(torch.zeros(2, 1))],
    ids=["a list", "a DataLoader"],
)
def test_a_mini_batch_is_not_saved_if_the_loader_cannot_reread_it(tmp_path, loader):
    run = run_with(loader, tmp_path)
    assert save_bad_mini_batch(run, run.training, 1, "nan") == "It was not saved, because its loader can't reread it."
    assert saved_in(run) == []


def test_a_mini_batch_of_a_stream_is_not_saved(tmp_path):
    class Streaming(TinySession):
        def init_datasets(self):
            return make_dataset().to_iterable_dataset(), super().init_datasets()[1]

    run = run_with(Streaming(CONFIG, tmp_path).dataloader_train, tmp_path)
    assert save_bad_mini_batch(run, run.training, 1, "nan").startswith("It was not saved")
    assert saved_in(run) == []


def test_without_a_run_directory_nothing_is_saved_and_the_message_is_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(training=Phase("training", OneMiniBatch({"x": torch.zeros(1)}), is_training=True), max_epochs=1)
    assert save_bad_mini_batch(run, run.training, 1, "nan") == ""
    assert list(tmp_path.iterdir()) == []


class Picture:
    def __repr__(self):
        return "a picture of a cat"


@pytest.mark.parametrize(
    ("mini_batch", "expected"),
    [
        ({"picture": [Picture(), None]}, {"picture": ["a picture of a cat", None]}),
        ({"boxes": ({1: (1, 2.5)}, b"bytes", True)}, {"boxes": [{"1": [1, 2.5]}, b"bytes", True]}),
        ([Picture(), "text"], ["a picture of a cat", "text"]),
        (Picture(), "a picture of a cat"),
    ],
)
def test_values_that_cannot_be_saved_are_replaced_by_descriptions(tmp_path, mini_batch, expected):
    run = run_with(OneMiniBatch(mini_batch), tmp_path)
    assert "the rows [3, 1] of training; it is saved in" in save_bad_mini_batch(run, run.training, 1, "nan")
    (name,) = saved_in(run)
    assert torch.load(run.run_directory.path / BAD_MINI_BATCHES_FOLDER / name, weights_only=True)["values"] == expected


def test_a_write_error_is_in_the_message_with_the_rows(tmp_path):
    run = run_with(OneMiniBatch({"x": torch.zeros(1)}), tmp_path)
    folder = run.run_directory.path / BAD_MINI_BATCHES_FOLDER
    (folder / "training-epoch-000001-mini-batch-00000001.pth").mkdir(parents=True)
    message = save_bad_mini_batch(run, run.training, 1, "nan")
    assert message.startswith("Its samples are the rows [3, 1] of training; it could not be saved: can't write")


def test_the_error_that_ends_a_run_names_the_file_of_its_mini_batch(tmp_path):
    class Poisoned(TinySession):
        def init_datasets(self):
            training, validation = super().init_datasets()
            columns = training.to_dict()
            columns["y"][11] = math.nan
            return Dataset.from_dict(columns), validation

    session = Poisoned(config_with(checkpoint_every_n_iterations=1), tmp_path)
    with pytest.raises(NonFiniteError, match="Its samples are the rows") as caught:
        session()
    (file,) = (tmp_path / session.run_dir / BAD_MINI_BATCHES_FOLDER).iterdir()
    assert str(file) in str(caught.value)
    saved = torch.load(file, weights_only=True)
    assert saved["reason"] == "its loss is nan"
    assert saved["values"]["y"].isnan().tolist() == [row == 11 for row in saved["rows"]]
    assert 11 in saved["rows"]


def test_a_write_error_does_not_hide_the_error_that_ends_the_run(tmp_path):
    class Poisoned(TinySession):
        def loss_function(self, *, output, target):
            return super().loss_function(output=output, target=target) * math.nan

    session = Poisoned(config_with(), tmp_path)
    Path(session.run_dir, BAD_MINI_BATCHES_FOLDER).write_text("in the way of the folder")
    with pytest.raises(NonFiniteError, match="it could not be saved: can't make the folder"):
        session()


def test_an_error_in_rereading_is_in_the_message(tmp_path):
    class Once(OneMiniBatch):
        def read(self, epoch, position):
            raise KeyError("gone")

    run = run_with(Once({}), tmp_path)
    assert save_bad_mini_batch(run, run.training, 1, "nan") == (
        "It was not saved, because rereading it failed: KeyError: 'gone'."
    )


def test_numbers_and_arrays_of_numpy_are_saved(tmp_path):
    values = {"number": np.float64(1.5), "array": np.arange(3), "texts": np.array(["a", "b"])}
    run = run_with(OneMiniBatch(values), tmp_path)
    assert "it is saved in" in save_bad_mini_batch(run, run.training, 1, "nan")
    (file,) = (run.run_directory.path / BAD_MINI_BATCHES_FOLDER).iterdir()
    saved = torch.load(file, weights_only=True)["values"]
    assert saved["number"] == 1.5
    assert saved["array"].tolist() == [0, 1, 2]
    assert saved["texts"] == ["a", "b"]
