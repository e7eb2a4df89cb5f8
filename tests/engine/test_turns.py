import pytest
import torch

from torchbase.engine.named_optimizers import NamedOptimizers
from torchbase.engine.turns import Turns, name_in_turn
from torchbase.errors import StepError


def make_turns(choose=None):
    named = {name: torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), 0.1) for name in ("discriminator", "generator")}
    return Turns(NamedOptimizers(named), choose)


def test_all_have_a_turn_in_each_iteration_unless_some_are_chosen():
    assert make_turns().of_iteration(3) == make_turns().names == ("discriminator", "generator")
    chosen = make_turns(lambda iteration: ["generator", "discriminator"] if iteration % 5 == 0 else ["discriminator"])
    assert chosen.of_iteration(4) == ("discriminator",)
    assert chosen.of_iteration(5) == ("generator", "discriminator")


def test_values_have_the_name_of_the_turn_at_the_end():
    assert name_in_turn("gradient_norm", "generator") == "gradient_norm_generator"
    assert make_turns().losses == ("loss_discriminator", "loss_generator")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("generator", "has to be a list of names, but is a str"),
        (None, "has to be a list of names, but is None"),
        ({"generator"}, "has to be a list of names, but is a set"),
        (["generatr"], "include 'generatr', which is no optimizer. Did you mean 'generator'"),
        ([["generator"]], "which is no optimizer"),
        (["generator", "generator"], "with a name twice"),
        ([], "an empty list, so nothing would train"),
    ],
)
def test_turns_that_are_no_list_of_names_are_refused(returned, message):
    turns = make_turns(lambda iteration: returned)
    with pytest.raises(StepError, match=message) as raised:
        turns.of_iteration(7)
    assert "optimizer_turns returned for iteration 7" in str(raised.value)
    assert "return some of the names 'discriminator', 'generator'" in str(raised.value)
