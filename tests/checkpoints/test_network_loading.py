import pytest
import torch

from torchbase.checkpoints.network_loading import load_network
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
