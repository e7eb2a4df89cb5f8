import pytest
import torch

from torchbase import Phase, Run
from torchbase.engine.optimizer_parameters import held_parameters, parameters_not_held


class Wrapper(torch.optim.Optimizer):
    """An optimizer that steps others and has no groups of its own."""

    def __init__(self, wrapped):
        self.wrapped = wrapped


def sgd(*parameters):
    return torch.optim.SGD(parameters, lr=0.1)


A, B, C = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))


@pytest.mark.parametrize(
    "optimizer",
    [
        sgd(A, B),
        torch.optim.SGD([{"params": [A]}, {"params": [B], "lr": 1.0}], lr=0.1),
        torch.optim.SGD([("a", A), ("b", B)], lr=0.1),
        Wrapper(sgd(A, B)),
        Wrapper([sgd(A), sgd(B)]),
        Wrapper({"one": sgd(A), "two": Wrapper((sgd(B),))}),
    ],
)
def test_the_parameters_of_all_groups_and_wrapped_optimizers_are_held(optimizer):
    assert held_parameters(optimizer) == {id(A): A, id(B): B}


def test_an_optimizer_that_refers_to_itself_is_searched_once():
    optimizer = sgd(A)
    optimizer.parent = Wrapper([optimizer])
    assert held_parameters(optimizer) == {id(A): A}


def test_tied_and_frozen_parameters_are_not_missing():
    network = torch.nn.ModuleDict({"one": torch.nn.Linear(2, 2), "two": torch.nn.Linear(2, 2)})
    network["two"].weight = network["one"].weight
    network["two"].bias.requires_grad_(False)
    run = Run(training=Phase("training", [], is_training=True), max_epochs=1, network=network)
    assert parameters_not_held(run) == []  # there is no optimizer
    run.optimizer = sgd(network["two"].weight)
    assert parameters_not_held(run) == ["one.bias"]
