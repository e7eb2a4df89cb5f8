import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny import CONFIG, TinySession, config_with, make_dataset

from torchbase import Phase, Run
from torchbase.errors import NonFiniteError
from torchbase.hooks.bad_mini_batches import FOLDER, MAXIMUM_SAVED, save_bad_mini_batch
from torchbase.run_directory.directory import RunDirectory


def run_with(loader, tmp_path, epoch=1):
    directory = RunDirectory.create(tmp_path / "others")
    return Run(training=Phase("training", loader, is_training=True), max_epochs=3, epoch=epoch, run_directory=directory)


def kept_in(run):
    folder = run.run_directory.path / FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


class OneMiniBatch:
    """A loader of the user's own."""

    def __init__(self, mini_batch):
        self.mini_batch = mini_batch

    def __iter__(self):
        yield self.mini_batch

    def read(self, epoch, position):
        return [3, 1], self.mini_batch


@pytest.mark.parametrize(("epoch", "mini_batch", "size"), [(1, 1, 4), (2, 3, 4), (2, 5, 2)])
def test_what_is_kept_is_what_the_shuffled_loader_gave(tmp_path, epoch, mini_batch, size):
    session = TinySession(CONFIG, tmp_path)
    given = list(session.dataloader_train.mini_batches(epoch))[mini_batch - 1]
    run = run_with(session.dataloader_train, tmp_path, epoch)
    said = save_bad_mini_batch(run, run.training, mini_batch, "its loss is nan")
    file = run.run_directory.path / FOLDER / f"training-epoch-{epoch:06d}-mini-batch-{mini_batch:08d}.pth"
    kept = torch.load(file, weights_only=True)
    assert said == f"Its samples are the rows {kept['rows']} of training; it is saved in {file}."
    assert [kept[name] for name in ("phase", "epoch", "mini_batch", "reason")] == [
        "training",
        epoch,
        mini_batch,
        "its loss is nan",
    ]
    assert len(kept["rows"]) == size
    assert kept["values"].keys() == given.keys()
    assert torch.equal(kept["values"]["x"], given["x"])
    assert torch.equal(kept["values"]["y"], given["y"])
    assert kept["values"]["name"] == given["name"] == [str(row) for row in kept["rows"]]
    assert torch.equal(kept["values"]["x"], torch.tensor([session.dataset_train[row]["x"] for row in kept["rows"]]))


def test_the_first_ten_of_a_run_are_kept(tmp_path):
    run = run_with(TinySession(CONFIG, tmp_path).dataloader_train, tmp_path)
    said = []
    for number in range(MAXIMUM_SAVED + 2):
        run.epoch = 1 + number // 5
        said.append(save_bad_mini_batch(run, run.training, 1 + number % 5, "its loss is nan"))
    folder = run.run_directory.path / FOLDER
    assert all("it is saved in" in one for one in said[:10])
    assert all(one.endswith(f"it was not saved, because {folder} already holds 10 files.") for one in said[10:])
    assert len(kept_in(run)) == 10
    run.epoch = 2
    assert "it is saved in" in save_bad_mini_batch(run, run.training, 5, "again")  # it is one of the ten
    assert torch.load(folder / kept_in(run)[-1], weights_only=True)["reason"] == "again"


@pytest.mark.parametrize(
    "loader",
    [[{"x": torch.zeros(1)}], torch.utils.data.DataLoader(torch.zeros(2, 1))],
    ids=["a list", "a DataLoader"],
)
def test_of_a_loader_that_cannot_read_it_again_nothing_is_kept(tmp_path, loader):
    run = run_with(loader, tmp_path)
    assert save_bad_mini_batch(run, run.training, 1, "nan") == "It was not saved, because its loader can't reread it."
    assert kept_in(run) == []


def test_a_mini_batch_of_a_stream_is_not_kept(tmp_path):
    class Streaming(TinySession):
        def init_datasets(self):
            return make_dataset().to_iterable_dataset(), super().init_datasets()[1]

    run = run_with(Streaming(CONFIG, tmp_path).dataloader_train, tmp_path)
    assert save_bad_mini_batch(run, run.training, 1, "nan").startswith("It was not saved")
    assert kept_in(run) == []


def test_without_a_run_directory_nothing_is_kept_and_nothing_said(tmp_path, monkeypatch):
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
def test_what_a_file_cannot_hold_is_described_in_it(tmp_path, mini_batch, expected):
    run = run_with(OneMiniBatch(mini_batch), tmp_path)
    assert "the rows [3, 1] of training; it is saved in" in save_bad_mini_batch(run, run.training, 1, "nan")
    (name,) = kept_in(run)
    assert torch.load(run.run_directory.path / FOLDER / name, weights_only=True)["values"] == expected


def test_a_file_that_cannot_be_written_is_told_with_the_rows(tmp_path):
    run = run_with(OneMiniBatch({"x": torch.zeros(1)}), tmp_path)
    (run.run_directory.path / FOLDER / "training-epoch-000001-mini-batch-00000001.pth").mkdir(parents=True)
    said = save_bad_mini_batch(run, run.training, 1, "nan")
    assert said.startswith("Its samples are the rows [3, 1] of training; it could not be saved: can't write")


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
    (file,) = (tmp_path / session.run_dir / FOLDER).iterdir()
    assert str(file) in str(caught.value)
    kept = torch.load(file, weights_only=True)
    assert kept["reason"] == "its loss is nan"
    assert kept["values"]["y"].isnan().tolist() == [row == 11 for row in kept["rows"]]
    assert 11 in kept["rows"]


def test_what_can_not_be_kept_does_not_hide_the_error_that_ends_the_run(tmp_path):
    class Poisoned(TinySession):
        def loss_function(self, *, output, target):
            return super().loss_function(output=output, target=target) * math.nan

    session = Poisoned(config_with(), tmp_path)
    Path(session.run_dir, FOLDER).write_text("in the way of the folder")
    with pytest.raises(NonFiniteError, match="it could not be saved: can't make the folder"):
        session()


def test_a_mini_batch_that_can_not_be_read_again_is_told_of(tmp_path):
    class Once(OneMiniBatch):
        def read(self, epoch, position):
            raise KeyError("gone")

    run = run_with(Once({}), tmp_path)
    assert save_bad_mini_batch(run, run.training, 1, "nan") == (
        "It was not saved, because rereading it failed: KeyError: 'gone'."
    )


def test_numbers_and_arrays_of_numpy_are_kept(tmp_path):
    values = {"number": np.float64(1.5), "array": np.arange(3), "texts": np.array(["a", "b"])}
    run = run_with(OneMiniBatch(values), tmp_path)
    assert "it is saved in" in save_bad_mini_batch(run, run.training, 1, "nan")
    (file,) = (run.run_directory.path / FOLDER).iterdir()
    kept = torch.load(file, weights_only=True)["values"]
    assert kept["number"] == 1.5
    assert kept["array"].tolist() == [0, 1, 2]
    assert kept["texts"] == ["a", "b"]
