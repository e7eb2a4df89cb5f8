import pytest
import torch
from torch.nn import Embedding, LazyLinear, Linear, ModuleList, Sequential

from torchbase.errors import ConfigError, StepError
from torchbase.sharding import checks
from torchbase.sharding.checks import check_can_be_sharded, check_torch_can_shard, check_units


def turned():
    layer = Linear(3, 2)
    layer.weight = torch.nn.Parameter(torch.zeros(3, 2).t())
    return layer


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (Sequential(LazyLinear(2)), r"lazy modules \('0.weight', '0.bias'\)"),
        (Sequential(Embedding(3, 2, sparse=True)), "The gradient of the Embedding '0' is sparse"),
        (turned(), "The parameter 'weight' isn't contiguous"),
    ],
)
def test_what_can_not_be_sharded_is_named_with_a_fix(network, text):
    with pytest.raises(StepError, match=f"{text}.*To fix"):
        check_can_be_sharded(network)


def tied():
    network = Sequential(Linear(2, 2), Linear(2, 2), Linear(2, 2))
    network[1].weight = network[0].weight
    return network


def mixed():
    return Sequential(Linear(2, 2), Linear(2, 2).to(torch.bfloat16))


NESTED = Sequential(ModuleList([Linear(2, 2)]), Linear(2, 2))


@pytest.mark.parametrize(
    ("network", "units", "text"),
    [
        (NESTED, lambda network: None, "sharded_units has to return a list of modules, but returned None"),
        (NESTED, lambda network: ["1"], "sharded_units has to return a list of modules"),
        (NESTED, lambda network: [Linear(2, 2)], "a Linear that isn't a module of the network"),
        (NESTED, lambda network: [network[0]], "'0', a ModuleList, which is never called"),
        (tied(), lambda network: [network[0]], "'1.weight' is also '0.weight', and both are in different units"),
        (mixed(), lambda network: [], r"'0.weight' \(torch.float32\) and '1.weight' \(torch.bfloat16\) are trained"),
    ],
)
def test_units_that_can_not_be_are_named_with_a_fix(network, units, text):
    with pytest.raises(StepError, match=text):
        check_units(network, units(network))


def test_units_are_ordered_from_the_outside_to_the_inside_without_the_network_itself():
    network = Sequential(Sequential(Linear(2, 2), Linear(2, 2)), Linear(2, 2))
    returned = [network[1], network[0][1], network, network[0]]
    assert check_units(network, returned) == [network[0], network[0][1], network[1]]


def test_tied_parameters_in_one_unit_and_types_in_units_of_their_own_are_fine():
    assert check_units(tied(), []) == []
    network = mixed()
    assert check_units(network, [network[1]]) == [network[1]]
    network[0].requires_grad_(False)
    assert check_units(network, []) == []


def test_a_torch_that_lacks_what_is_needed_is_named_with_a_fix(monkeypatch):
    monkeypatch.setattr(checks, "FSDPModule", type("Old", (), {"set_gradient_divide_factor": None}))
    with pytest.raises(ConfigError, match=r"torch .* lacks .*\(FSDPModule.set_custom_all_gather\). To fix"):
        check_torch_can_shard()
