import copy

import pytest
import torch

from torchbase.checkpoints.network_loading import load_matching, load_network
from torchbase.checkpoints.saved_tensors import Piece, SavedTensor
from torchbase.files.bitwise import different_values


class Grown(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)
        self.register_buffer("rows", None)
        self.register_parameter("scale", None)
        self.register_module("head", None)
        self.register_buffer("seen", torch.zeros(0, 3))


def grown():
    network = torch.nn.Sequential(Grown())
    network[0].rows = torch.tensor(5.0)
    network[0].seen.resize_(4, 3).fill_(1.0)
    return network


def test_buffers_that_grew_in_training_are_loaded():
    state = grown().state_dict()
    fresh = torch.nn.Sequential(Grown())
    load_network(fresh, state)
    assert different_values(state, fresh.state_dict()) == []
    assert dict(fresh.named_buffers()).keys() == {"0.rows", "0.seen"}


def test_the_loaded_buffers_are_copies():
    state = grown().state_dict()
    fresh = torch.nn.Sequential(Grown())
    load_network(fresh, state)
    fresh[0].seen.zero_()
    assert state["0.seen"].eq(1.0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update({"0.linear.weight": torch.zeros(3, 3)}), "size mismatch for 0.linear.weight"),
        (lambda state: state.update({"0.seen": torch.zeros(4)}), "size mismatch for 0.seen"),
        (lambda state: state.update({"0.other": torch.zeros(4)}), "Unexpected key"),
        (lambda state: state.update({"1.rows": torch.zeros(4)}), "Unexpected key"),
        (lambda state: state.pop("0.linear.bias"), "Missing key"),
        (lambda state: state.update({"0.scale": torch.zeros(4)}), 'Unexpected key.*"0.scale"'),
        (lambda state: state.update({"0.head": torch.zeros(4)}), 'Unexpected key.*"0.head"'),
    ],
)
def test_what_does_not_fit_is_an_error_as_in_torch(change, message):
    state = grown().state_dict()
    change(state)
    with pytest.raises(RuntimeError, match=message):
        load_network(torch.nn.Sequential(Grown()), state)


class WithExtraState(torch.nn.Linear):
    extra = 1

    def get_extra_state(self):
        return {"extra": self.extra}

    def set_extra_state(self, state):
        self.extra = state["extra"]


def parts_of(**modules):
    return torch.nn.ModuleDict({name: module.requires_grad_(False) for name, module in modules.items()})


@pytest.mark.parametrize("is_saved", [True, False])
def test_what_matches_by_name_and_shape_is_loaded_and_the_rest_is_named(is_saved):
    source = parts_of(body=WithExtraState(2, 2), norm=torch.nn.BatchNorm1d(2), head=torch.nn.Linear(2, 5), old=Grown())
    source["body"].extra = 7
    source["norm"].running_mean.fill_(3.0)
    network = parts_of(body=WithExtraState(2, 2), norm=torch.nn.BatchNorm1d(2), head=torch.nn.Linear(2, 3), new=Grown())
    state, before = source.state_dict(), copy.deepcopy(network.state_dict())
    if is_saved:  # as of a checkpoint of several processes
        state["body.weight"] = SavedTensor([Piece(state["body.weight"], 0, (2, 2))], is_sharded=True)
    found = load_matching(network, state)
    assert found.taken == [name for name in before if name.startswith(("body", "norm"))]
    assert found.missing == ["new.seen", "new.linear.weight", "new.linear.bias"]
    assert found.left_over == ["old.seen", "old.linear.weight", "old.linear.bias"]
    assert found.other_shape == {
        "head.weight": "(5, 2) in the source, (3, 2) here",
        "head.bias": "(5,) in the source, (3,) here",
    }
    after = network.state_dict()
    expected = {name: source.state_dict()[name] if name in found.taken else before[name] for name in before}
    assert different_values(after, expected) == []
