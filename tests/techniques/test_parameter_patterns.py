import pytest
import torch

from torchbase.errors import HookError
from torchbase.techniques.parameter_patterns import check_is_optimized, matching_parameters


def make_network():
    return torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 1)})


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("encoder.*", ["encoder.weight", "encoder.bias"]),
        ("*.bias", ["encoder.bias", "head.bias"]),
        ("head.weight", ["head.weight"]),
        ("*", ["encoder.weight", "encoder.bias", "head.weight", "head.bias"]),
    ],
)
def test_parameters_are_selected_by_name(pattern, names):
    network = make_network()
    matching = matching_parameters(network, pattern)
    assert list(matching) == names
    assert all(matching[name] is network.get_parameter(name) for name in names)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("head.weigth", r"matches the pattern 'head\.weigth'\. Did you mean 'head\.weight'"),
        ("zzz", r"Available: encoder\.weight, encoder\.bias, head\.weight, head\.bias\. To fix"),
    ],
)
def test_a_pattern_without_a_match_raises_with_the_existing_names(pattern, message):
    with pytest.raises(HookError, match=message):
        matching_parameters(make_network(), pattern)


def test_a_parameter_that_the_optimizer_lacks_raises():
    network = make_network()
    optimizer = torch.optim.SGD(network["head"].parameters(), lr=0.1)
    check_is_optimized(matching_parameters(network, "head.*"), optimizer)
    with pytest.raises(HookError, match=r"'encoder\.weight' can't be unfrozen, since the optimizer doesn't contain it"):
        check_is_optimized(matching_parameters(network, "*"), optimizer)
