import logging

import pytest
import torch
from adversaries import AdversarialSession, CriticSession
from every_technique import session_with
from tiny import TinySession

from torchbase.errors import StepError


def adam(*modules):
    return torch.optim.Adam([one for module in modules for one in module.parameters()])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: {}, "returned an empty dictionary, so nothing would train"),
        (lambda net: {1: adam(net)}, "an optimizer of the name 1, and a name has to be a string"),
        (lambda net: {"": adam(net)}, "an optimizer of the name ''"),
        (lambda net: {"a/b": adam(net)}, "an optimizer of the name 'a/b', .* part of the names of logged values"),
        (lambda net: {"a": adam(net), "b": None}, "its item 'b' is None"),
        (lambda net: [adam(net)], "or a dictionary of them by name, but returned a list"),
        (
            lambda net: {"a": adam(net.generator), "b": adam(torch.nn.Linear(1, 1))},
            "The optimizer 'b' of init_optimizer, Adam, holds 2 parameters, and none of them is among the",
        ),
        (
            lambda net: {"a": adam(net.generator), "b": adam(net.discriminator, net.generator)},
            "'a' and 'b' both hold the parameter 'generator.0.weight', .* pass each parameter to one optimizer",
        ),
    ],
)
def test_what_is_no_dictionary_of_optimizers_is_refused(tmp_path, make, message):
    class Wrong(AdversarialSession):
        def init_optimizer(self):
            return make(self.network)

    with pytest.raises(StepError, match=message):
        session_with(tmp_path, kind=Wrong)()


def test_a_parameter_that_none_of_the_optimizers_holds_is_named(tmp_path, caplog):
    class Part(AdversarialSession):
        def init_optimizer(self):
            return {"generator": adam(self.network.generator[0])}

    with caplog.at_level(logging.WARNING, "torchbase"):
        session_with(tmp_path, kind=Part, num_epochs=1)()
    assert "The optimizer doesn't train these parameters of the network, " in caplog.text
    assert "'discriminator.0.weight'" in caplog.text


def test_turns_of_a_single_optimizer_are_refused(tmp_path):
    class Single(TinySession):
        def optimizer_turns(self, iteration):
            return ["generator"]

    with pytest.raises(StepError, match="optimizer_turns is overridden, and init_optimizer returned a single"):
        session_with(tmp_path, kind=Single)()


def test_turns_are_checked_before_training(tmp_path):
    class Wrong(CriticSession):
        def optimizer_turns(self, iteration):
            return ["critic"]

        def forward_pass(self, mini_batch):
            raise AssertionError

    with pytest.raises(StepError, match="optimizer_turns returned for iteration 1 include 'critic'"):
        session_with(tmp_path, kind=Wrong)()


def test_turns_are_checked_in_each_iteration(tmp_path):
    class Late(CriticSession):
        def optimizer_turns(self, iteration):
            return ["discriminator"] if iteration < 3 else ["critic"]

    with pytest.raises(StepError, match="optimizer_turns returned for iteration 3 include 'critic'"):
        session_with(tmp_path, kind=Late)()


def test_an_override_may_call_the_default(tmp_path):
    class Reversed(AdversarialSession):
        def optimizer_turns(self, iteration):
            return super().optimizer_turns(iteration)[::-1]

    averages = session_with(tmp_path, kind=Reversed, num_epochs=1)().averages["training"]
    assert list(averages) == ["loss_generator", "loss_discriminator", "on_real_discriminator"]


def test_a_misspelt_method_for_turns_is_named(tmp_path, caplog):
    class Misspelt(AdversarialSession):
        def optimiser_turns(self, iteration):
            return ["generator"]

    session_with(tmp_path, kind=Misspelt)
    assert "optimizer_turns" in caplog.text


def test_there_is_no_turn_outside_of_training(tmp_path):
    class Notes(AdversarialSession):
        def forward_pass(self, mini_batch):
            turns.append(self.turn)
            return super().forward_pass(mini_batch)

    turns = []
    session = session_with(tmp_path, kind=Notes, num_epochs=1)
    assert session.turn is None
    session()
    del turns[:]
    session.evaluate(session.datasets_valid_dict["valid"])
    list(session.predict(session.dataset_train))
    assert set(turns) == {None}
    assert session.turn is None


def test_a_program_may_have_an_attribute_of_its_own_with_the_name_of_the_turn(tmp_path):
    class Chess(TinySession):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.turn = "white"

        def forward_pass(self, mini_batch):
            assert self.turn == "white"
            return super().forward_pass(mini_batch)

    assert session_with(tmp_path, kind=Chess, num_epochs=1)().epochs_done == 1
