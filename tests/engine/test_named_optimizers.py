import pytest
import torch

from torchbase.engine.named_optimizers import NamedOptimizers, by_name, place_of_group
from torchbase.engine.optimizer_parameters import held_parameters
from torchbase.errors import StepError
from torchbase.files.bitwise import different_values


def make():
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(3, 1)
    groups = [{"params": [second.weight]}, {"params": [second.bias], "lr": 0.2}]
    return NamedOptimizers({"first": torch.optim.Adam(first.parameters()), "second": torch.optim.SGD(groups, 0.1)})


def step_each(optimizers):
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()


def test_it_is_an_optimizer_and_a_mapping_of_optimizers():
    optimizers = make()
    assert isinstance(optimizers, torch.optim.Optimizer)
    assert list(optimizers) == ["first", "second"]
    assert len(optimizers) == 2
    assert "first" in optimizers
    assert optimizers["second"].param_groups[1]["lr"] == 0.2
    assert optimizers == optimizers
    assert optimizers != make()
    assert {optimizers: 1}[optimizers] == 1
    with pytest.raises(KeyError, match=r"There is no optimizer 'frist'. Did you mean 'first'"):
        optimizers["frist"]
    assert repr(optimizers).startswith("first: Adam (")
    assert "\nsecond: SGD (" in repr(optimizers)


def test_it_has_the_groups_the_state_and_the_parameters_of_all():
    optimizers = make()
    assert [group["lr"] for group in optimizers.param_groups] == [0.001, 0.1, 0.2]
    optimizers.param_groups[2]["lr"] = 0.3
    assert optimizers["second"].param_groups[1]["lr"] == 0.3
    assert len(held_parameters(optimizers)) == 4
    step_each(optimizers)
    assert {one.shape for one in optimizers.state} >= {torch.Size([1, 2]), torch.Size([1])}
    optimizers.zero_grad()
    assert all(one.grad is None for one in held_parameters(optimizers).values())


def test_its_state_is_restored():
    saved, other = make(), make()
    step_each(saved)
    other.load_state_dict(saved.state_dict())
    assert different_values(other.state_dict(), saved.state_dict()) == []


def test_all_can_not_be_stepped_at_once():
    with pytest.raises(StepError, match=r"'first', 'second' can't be stepped at once.*run.optimizer\['first'\].step"):
        make().step()


def test_a_single_optimizer_has_no_name():
    optimizers = make()
    assert by_name(None) == {}
    assert by_name(optimizers["first"]) == {None: optimizers["first"]}
    assert by_name(optimizers) == {"first": optimizers["first"], "second": optimizers["second"]}


def test_a_group_is_described_by_its_number_and_its_optimizer():
    optimizers = make()
    described = [place_of_group(optimizers, number) for number in range(3)]
    assert described == [" of 'first'", " in parameter group 0 of 'second'", " in parameter group 1 of 'second'"]
    assert place_of_group(optimizers["first"], 0) == ""
    assert place_of_group(optimizers["second"], 1) == " in parameter group 1"
