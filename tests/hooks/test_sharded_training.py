import logging

import pytest
import several
import torch
from sharded import BlocksSession, trained
from whole_runs.test_several_processes import Case, NanInLastPart, Session, Stateful, case

from torchbase import hooks as techniques
from torchbase.errors import HookError, ProcessLostError, StepError

several.import_sharding()


def raises(index, parent, case, error, text):
    with pytest.raises(error, match=text):
        trained(parent, case)


REFUSED = {
    "a changed parameter": (Case(Stateful), StepError, "forward_pass changes the parameter 'mean', and a sharded"),
    "a retry": (case(techniques.RetryOnOutOfMemory), HookError, "'retry_on_out_of_memory' can't be used with"),
    "a graph": (case(techniques.NetworkGraph), HookError, "'network_graph' can't be used with"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_sharded_is_refused_before_training(tmp_path, name):
    several.values_of(2, raises, tmp_path, *REFUSED[name])


class Choosing(torch.nn.Module):
    """Uses one of two parameters of one size, by its samples."""

    def __init__(self):
        super().__init__()
        self.left = torch.nn.Parameter(torch.ones(3))
        self.right = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return (x * (self.left if x[0, 0] > 0 else self.right)).sum(dim=1)


class ChoosingUnits(torch.nn.Module):
    """Uses one of two units of one size, by its samples."""

    def __init__(self):
        super().__init__()
        self.left, self.right = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)

    def forward(self, x):
        return (self.left if x[0, 0] > 0 else self.right)(x).sum(dim=1)


class ChoosingSession(Session):
    architecture = "Choosing"

    def init_network(self):
        return Choosing()


class ChoosingUnitsSession(Session):
    architecture = "ChoosingUnits"

    def init_network(self):
        return ChoosingUnits()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (ChoosingSession, "The parameter '(left|right)' gets a gradient in the part of a mini-batch that process"),
        (ChoosingUnitsSession, "The parameter|computed different units of the sharded network"),
    ],
)
def test_a_network_that_chooses_parameters_by_its_samples_is_an_error(tmp_path, kind, text):
    several.values_of(2, raises, tmp_path, Case(kind), StepError, text)


class PartSession(BlocksSession):
    def forward_pass(self, mini_batch):
        output = self.network(mini_batch["x"]) + self.network.last.weight.sum()
        return {"output": output, "target": mini_batch["y"]}


def notes_of_mixed_tensors(index, parent):
    with pytest.raises(RuntimeError, match=r"mixed torch\.Tensor and DTensor") as caught:
        trained(parent, Case(PartSession))
    return caught.value.__notes__


def test_parameters_that_are_used_outside_of_a_call_of_the_network_are_explained(tmp_path):
    for notes in several.values_of(2, notes_of_mixed_tensors, tmp_path):
        assert any("whole only while the network is called" in note for note in notes)


class FailingSession(NanInLastPart):
    """Fails on the last process, in its second iteration."""

    def forward_pass(self, mini_batch):
        if self.network.training and self._run.progress.iterations == 1 and self.part == 7:
            raise ValueError("a fault of the user's")
        return super().forward_pass(mini_batch)


def error_of(index, parent):
    try:
        trained(parent, Case(FailingSession))
    except (ValueError, ProcessLostError) as error:
        return type(error).__name__, str(error)


def test_an_error_on_one_process_ends_all(tmp_path):
    first, second = several.values_of(2, error_of, tmp_path)
    assert first[0] == "ProcessLostError"
    assert second == ("ValueError", "a fault of the user's")


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


class Own(torch.optim.SGD):
    """An optimizer of which nothing is known."""


class OwnOptimizerSession(Session):
    def init_optimizer(self):
        return Own(self.network.parameters(), lr=0.01)


class AdafactorSession(Session):
    def init_optimizer(self):
        return torch.optim.Adafactor(self.network.parameters(), lr=0.01)


def notes_of_optimizer(index, parent):
    with pytest.raises(RuntimeError, match="Sharding propagation") as caught:
        trained(parent, Case(AdafactorSession))
    return caught.value.__notes__


def test_an_optimizer_that_can_not_compute_with_shards_is_explained(tmp_path):
    for notes in several.values_of(2, notes_of_optimizer, tmp_path):
        assert any("The optimizer Adafactor can't compute with the shards" in note for note in notes)


class FusedSession(Session):
    def init_optimizer(self):
        return torch.optim.Adam(self.network.parameters(), lr=0.01, fused=True)


class Twice(torch.nn.Module):
    """Calls a layer twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.last(self.second(self.second(self.first(x)))).sum(dim=1)


class TwiceSession(Session):
    architecture = "Twice"

    def init_network(self):
        return Twice()


def warnings_of(index, parent, kind):
    handler = Lines()
    logging.getLogger("torchbase").addHandler(handler)
    trained(parent, Case(kind, settings={"num_epochs": 1}))
    return [line for line in handler.lines if "to rounding" in line]


@pytest.mark.parametrize(
    ("kind", "count", "text"),
    [
        (OwnOptimizerSession, 2, "the optimizer Own isn't known to compute each element by itself"),
        (FusedSession, 2, "the fused Adam rounds the last elements of a shard otherwise on CPUs"),
        (Session, 3, "3 processes aren't a power of two"),
        (TwiceSession, 2, "The unit 'second' of the sharded network is called several times"),
        (Session, 2, None),
    ],
)
def test_what_keeps_a_run_from_the_same_bits_is_said_once_before_training(tmp_path, kind, count, text):
    main, *others = several.values_of(count, warnings_of, tmp_path, kind)
    assert others == [[]] * (count - 1)
    if text is None:
        assert main == []
    else:
        (line,) = main
        assert text in line
