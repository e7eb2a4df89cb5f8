from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny import CONFIG, TinySession, config_with
from torch.nn.utils.rnn import pack_sequence

from torchbase import hookimpl
from torchbase.engine.mini_batch_notes import add_note, describe, rows_of


@dataclass
class Columns:
    x: torch.Tensor


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ({"x": torch.zeros(4, 3), "name": ["a", "b"]}, "x: torch.float32 of shape (4, 3), name: list of 2 str"),
        ({"x": [], "image": np.zeros((2, 5))}, "x: list of 0 objects, image: ndarray"),
        ({}, "no columns"),
        (torch.zeros(2, dtype=torch.int64), "torch.int64 of shape (2,)"),
        ((torch.zeros(4), [1]), "tuple of 0: torch.float32 of shape (4,), 1: list of 1 int"),
        (Columns(torch.zeros(4)), "Columns of x: torch.float32 of shape (4,)"),
        (pack_sequence([torch.zeros(2)]), "PackedSequence"),
        (object(), "object"),
        (
            {"x": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(1)], layout=torch.jagged)},
            "x: nested tensor of torch.float32 with 2 tensors",
        ),
    ],
)
def test_a_mini_batch_is_described_by_names_types_and_shapes(batch, expected):
    assert describe(batch) == expected


def test_many_rows_are_counted():
    error = ValueError()
    add_note(error, "here", {"x": torch.zeros(2)}, [5, 3])
    add_note(error, "here", {}, list(range(64)), more="; more")
    assert error.__notes__[0] == "here: x: torch.float32 of shape (2,); its samples are the rows 5, 3"
    assert error.__notes__[1].endswith(" 18, 19, … (64 in all); more")


def note_of(tmp_path, phase, event, at):
    """The first note of an error that a hook raises, and the rows of the mini-batch."""
    seen = []

    class Failing:
        def fail(self, run, now):
            if run.training.progress.is_done and phase == "training":
                return
            if now.name == phase and run.epoch == 2 and now.progress.mini_batches == at:
                raise ValueError("for the test")

        @hookimpl
        def on_iteration_start(self, run, phase, batch):
            seen[:] = [batch["name"]]
            if event == "on_iteration_start":
                self.fail(run, phase)

        @hookimpl
        def on_loss_computed(self, run, phase):
            if event == "on_loss_computed":
                self.fail(run, phase)

        @hookimpl
        def on_iteration_end(self, run, phase):
            if event == "on_iteration_end":
                self.fail(run, phase)

    session = TinySession(CONFIG, tmp_path)
    session.register(Failing())
    with pytest.raises(ValueError, match="for the test") as caught:
        session()
    return caught.value.__notes__, seen[0]


@pytest.mark.parametrize(
    ("event", "done"), [("on_iteration_start", 2), ("on_loss_computed", 2), ("on_iteration_end", 3)]
)
@pytest.mark.parametrize("phase", ["training", "validation-valid"])
def test_an_error_in_an_iteration_says_what_its_mini_batch_is(tmp_path, event, done, phase):
    notes, names = note_of(tmp_path, phase, event, done if phase == "training" else min(done, 3))
    shape = len(names)
    assert notes[:2] == [
        f"in the hook 'failing', at {event}",
        f"with mini-batch 3 of {phase}, epoch 2: x: torch.float32 of shape ({shape}, 3), y: torch.float32 of shape "
        f"({shape},), name: list of {shape} str; its samples are the rows {', '.join(names)}",
    ]


def test_an_error_of_a_prediction_says_what_its_mini_batch_is(tmp_path):
    class Failing(TinySession):
        def forward_pass(self, mini_batch):
            if "17" in mini_batch["name"]:
                raise KeyError("image")
            return super().forward_pass(mini_batch)

    session = Failing(config_with(), tmp_path)
    with pytest.raises(KeyError) as caught:
        list(session.predict(session.dataset_train))
    assert caught.value.__notes__[0].startswith("with mini-batch 5 of the prediction: x: torch.float32 of shape (2, 3)")
    assert caught.value.__notes__[0].endswith("its samples are the rows 16, 17")


def test_a_loader_of_another_kind_knows_no_rows():
    assert rows_of([1, 2], 1, 0) is None
