import logging

import pytest
import torch
from torch.nn import Linear, Sequential

from torchbase.sharding.meta_device import build_without_memory

CPU = torch.device("cpu")


def with_attribute():
    network = Linear(2, 2)
    network.offset = {"first": [torch.randn(2)]}
    return network


def with_values():
    return Linear(2, int(torch.ones(2).sum()))


class Session:
    def init_network(self):
        self.weight = torch.nn.Parameter(torch.randn(2))
        return Linear(2, 2)


def test_a_network_of_modules_needs_no_memory():
    network = build_without_memory(lambda: Sequential(Linear(2, 2), torch.nn.BatchNorm1d(2)), {}, CPU)
    assert all(one.is_meta for one in network.state_dict().values())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (with_attribute, "the attribute offset of Linear is a tensor, and not a buffer"),
        (with_values, "RuntimeError"),
    ],
)
def test_what_needs_values_is_built_with_memory_which_is_said_once(caplog, make, reason):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        expected = make()
        torch.manual_seed(1)
        with caplog.at_level(logging.WARNING, "torchbase"):
            network = build_without_memory(make, {}, CPU)
    assert torch.equal(network.weight, expected.weight)
    (line,) = caplog.messages
    assert reason in line


def test_a_tensor_beside_the_network_needs_memory():
    session = Session()
    build_without_memory(session.init_network, vars(session), CPU)
    assert not session.weight.is_meta


def test_an_error_of_the_user_is_raised():
    def fail():
        raise ValueError("of the user")

    with pytest.raises(ValueError, match="of the user"):
        build_without_memory(fail, {}, CPU)
