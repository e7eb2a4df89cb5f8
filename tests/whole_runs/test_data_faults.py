import math
import re
import textwrap
from typing import ClassVar

import pytest
import torch
from datasets import Dataset
from tiny import config_with

from torchbase import TrainingBaseSession, ValidationDatasetsDict, hookimpl
from torchbase.errors import DataError, NonFiniteError
from torchbase.metrics import MulticlassClassificationMetrics

ROWS, FAULTY, CLASSES = 20, 13, 4
X = [[float(row), 1.0, 2.0] for row in range(ROWS)]
LABELS = [row % CLASSES for row in range(ROWS)]


def replaced(values, value):
    return [value if row == FAULTY else one for row, one in enumerate(values)]


class Classes(TrainingBaseSession):
    """Classifies `x`. Row 13 of the training set is faulty, and is rarely in the first mini-batch."""

    columns: ClassVar = {"x": X, "label": LABELS}

    def init_datasets(self):
        valid = Dataset.from_dict({"x": X, "label": LABELS})
        return Dataset.from_dict(self.columns), ValidationDatasetsDict((valid,), (False,), ("valid",))

    def init_network(self):
        return torch.nn.Linear(3, CLASSES)

    def forward_pass(self, mini_batch):
        scores = self.network(mini_batch["x"].to(self.device))
        return {"scores": scores, "label": mini_batch["label"].to(self.device)}

    def loss_function(self, *, scores, label):
        return torch.nn.functional.cross_entropy(scores, label)

    def init_metrics(self):
        return None


def configured(size, **session):
    config = config_with(mini_batch_size=size, metrics_every_n_iterations=1, **session)
    return {**config, "network": {"architecture": "Linear"}}


def notes_of(session_class, tmp_path, error, size=2, **more):
    with pytest.raises(error) as raised:
        session_class({**configured(size), **more}, tmp_path)()
    return str(raised.value), getattr(raised.value, "__notes__", [])


def class_with(**columns):
    return type("Faulty", (Classes,), {"columns": {"x": X, "label": LABELS, **columns}})


# With all rows in a mini-batch, the rehearsal fails; with two, an iteration does.
BOTH_SIZES = pytest.mark.parametrize(("size", "where"), [(ROWS, "before training"), (2, "in training, epoch 1")])


@BOTH_SIZES
def test_a_label_out_of_range_is_named_with_its_column_and_row(tmp_path, size, where):
    message, notes = notes_of(class_with(label=replaced(LABELS, 7)), tmp_path, IndexError, size)
    assert message == "Target 7 is out of bounds."
    assert any(note.startswith(where) for note in notes)
    faults = [
        note for note in notes if note.startswith("The column 'label' of the data of training contains 7 in row 13")
    ]
    assert len(faults) == 1
    assert "class indices from 0, and there are at most 7 of them" in faults[0]


@BOTH_SIZES
def test_a_label_out_of_range_in_a_metric_is_named_with_its_column_and_row(tmp_path, size, where):
    class OnlyMeasured(class_with(label=replaced(LABELS, 7))):
        def loss_function(self, *, scores, label):
            return scores.square().mean()

        def init_metrics(self):
            return [MulticlassClassificationMetrics({"label": "class_ground_truth", "scores": "class_scores"})]

    chosen = {"MulticlassClassificationMetrics": ["accuracy"]}
    message, notes = notes_of(OnlyMeasured, tmp_path, ValueError, size, metrics=chosen)
    assert "has to contain classes from 0 to 3" in message
    assert any(note.startswith(where) for note in notes)
    (fault,) = [note for note in notes if note.startswith("The column 'label' of the data of training contains 7 in")]
    assert "in row 13; " in fault
    assert "from 0 to 3, since there are 4 classes" in fault


def test_a_prediction_names_the_column_and_row_too(tmp_path):
    class Looking(class_with(label=replaced(LABELS, 7))):
        def forward_pass(self, mini_batch):
            torch.eye(CLASSES)[mini_batch["label"]]
            return super().forward_pass(mini_batch)

    session = Looking(configured(2), tmp_path)
    with pytest.raises(IndexError) as raised:
        list(session.predict(session.dataset_train))
    assert any("contains 7 in row 13; " in note for note in raised.value.__notes__)


@BOTH_SIZES
def test_none_in_a_label_is_named_with_its_column_and_row(tmp_path, size, where):
    _, notes = notes_of(class_with(label=replaced(LABELS, None)), tmp_path, RuntimeError, size)
    assert any(note.startswith(where) for note in notes)
    assert [note for note in notes if "'label' of the data of training, Value('int64'), is None in row 13." in note]


@pytest.mark.parametrize("size", [ROWS, 2])
@pytest.mark.parametrize(("value", "found"), [(None, "is None"), ([None, 1.0, 2.0], "contains None inside its lists")])
def test_none_in_a_list_is_named_with_its_column_and_row(tmp_path, size, value, found):
    # None inside a list is NaN, and so is the loss. A list that is None can't be read, or is no tensor.
    error = (DataError, AttributeError) if value is None else NonFiniteError
    message, notes = notes_of(class_with(x=replaced(X, value)), tmp_path, error, size)
    named = f"The column 'x' of the data of training, List(Value('float64')), {found} in row 13. "
    assert named in " ".join([message, *notes])


@pytest.mark.parametrize("size", [ROWS, 2])
def test_lists_of_several_lengths_are_named_and_the_suggested_padding_works(tmp_path, size):
    faulty = class_with(x=replaced(X, [1.0, 2.0]))
    message, notes = notes_of(faulty, tmp_path, AttributeError, size)
    assert "'list' object has no attribute 'to'" in message
    assert any(note.startswith("before training") for note in notes)  # whichever rows are in the first mini-batch
    (fault,) = [note for note in notes if "'x' of the data of training contains lists of several lengths" in note]
    assert "row 13 has the shape (2,), and row" in fault
    namespace = {"torch": torch}
    exec(textwrap.dedent(re.search(r"(?s)\n( +def .*)", fault)[1]), namespace)
    padded = type("Padded", (faulty,), {"dataloader_collate_function": namespace["dataloader_collate_function"]})
    summary = padded(configured(size), tmp_path)()
    assert math.isfinite(summary.averages["training"]["loss"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collate_function_that_fails_names_the_column_of_several_lengths(tmp_path, workers):
    class Stacking(class_with(x=replaced(X, [1.0, 2.0]))):
        def dataloader_collate_function(self, batch):
            return torch.utils.data.default_collate(batch)

    config = configured(2, dataloader_num_workers=workers)
    with pytest.raises(RuntimeError) as raised:
        Stacking(config, tmp_path)()
    told = "\n".join([str(raised.value), *raised.value.__notes__])
    assert "The column 'x' of the data of training contains lists of several lengths: row 13 has the shape (2,)" in told


def test_an_error_with_other_causes_has_no_such_notes(tmp_path):
    class Broken(Classes):
        def forward_pass(self, mini_batch):
            if self.network.training and 13.0 in mini_batch["x"][:, 0]:
                raise RuntimeError("something else")
            return super().forward_pass(mini_batch)

    _, notes = notes_of(Broken, tmp_path, RuntimeError)
    assert not [note for note in notes if note.startswith("The column")]


def test_an_inspection_that_fails_does_not_hide_the_error(tmp_path):
    class Once(Classes):
        seen = 0

        def dataloader_collate_function(self, batch):
            self.seen += 1
            if self.seen > 20 and len(batch) == 2:
                raise OSError("the disk is gone")
            return super().dataloader_collate_function(batch)

        def forward_pass(self, mini_batch):
            if self.seen == 20:
                raise RuntimeError("first")
            return super().forward_pass(mini_batch)

    message, notes = notes_of(Once, tmp_path, RuntimeError)
    assert message == "first"
    assert [note for note in notes if note.endswith(", can't be read again: the disk is gone")]


def test_a_transform_may_fill_what_is_none(tmp_path):
    class Filled(class_with(label=replaced(LABELS, None))):
        def init_datasets(self):
            train, valid = super().init_datasets()
            return train.with_transform(fill), valid

    def fill(columns):
        return {"x": torch.tensor(columns["x"]), "label": torch.tensor([label or 0 for label in columns["label"]])}

    assert Filled(configured(2), tmp_path)().averages["training"]["loss"] > 0


@pytest.mark.parametrize(
    "event", ["on_phase_start", "on_iteration_end", "on_values_read", "on_phase_end", "on_epoch_end"]
)
def test_the_error_of_a_hook_after_the_last_mini_batch_is_the_one_that_is_raised(tmp_path, event):
    def fail(self, run):
        if event == "on_phase_start" or run.progress.mini_batches == ROWS // 2:
            raise OSError("the hook's own error")

    hook = type("Failing", (), {event: hookimpl(fail)})()
    session = Classes(configured(2), tmp_path)
    session.register(hook)
    with pytest.raises(OSError, match="the hook's own error"):
        session()
