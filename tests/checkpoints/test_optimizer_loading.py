import logging

import pytest
import torch
from adversaries import AdversarialSession
from every_technique import session_with
from tiny import StopAt, TinySession

from torchbase.errors import CheckpointError


class Resumed(AdversarialSession):
    """The same run with other optimizers, as `change` makes them of the former ones."""

    change = staticmethod(dict)

    def init_optimizer(self):
        return type(self).change(super().init_optimizer())


Resumed.__qualname__ = Resumed.__name__ = AdversarialSession.__qualname__


def resumed(parent, change):
    session_with(parent, StopAt(3), kind=AdversarialSession)()
    return type("AdversarialSession", (Resumed,), {"change": staticmethod(change)}).resume(parent)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda named: {"discriminator": named["discriminator"]}, "'generator' is missing"),
        (
            lambda named: {"discriminator": named["discriminator"], "painter": named["generator"]},
            "'generator' is missing",
        ),
        (lambda named: dict(reversed(named.items())), "their order differs, which is that of their turns"),
        (
            lambda named: named | {"generator": torch.optim.AdamW(named["generator"].param_groups[0]["params"])},
            "'generator' has another class",
        ),
        (lambda named: named["generator"], "only the optimizers of one of both have names"),
    ],
)
def test_other_optimizers_than_those_of_the_checkpoint_are_refused(tmp_path, change, difference):
    with pytest.raises(CheckpointError, match=difference) as raised:
        resumed(tmp_path, change)()
    assert "the optimizers 'discriminator' (Adam), 'generator' (SGD), and this session built" in str(raised.value)


def test_an_optimizer_that_has_been_added_is_refused(tmp_path):
    def add(named):
        first, *rest = named["generator"].param_groups[0]["params"]
        return {name: named[name] for name in ("discriminator",)} | {
            "generator": torch.optim.SGD(rest, 0.05, momentum=0.9),
            "first": torch.optim.SGD([first], 0.05),
        }

    with pytest.raises(CheckpointError, match="'first' has been added"):
        resumed(tmp_path, add)()


def test_an_optimizer_of_other_parameters_is_named(tmp_path):
    def leave_one_out(named):
        parameters = named["generator"].param_groups[0]["params"][1:]
        return named | {"generator": torch.optim.SGD(parameters, 0.05, momentum=0.9)}

    with pytest.raises(CheckpointError, match=r"The optimizer saved in .* built: of 'generator', .*size"):
        resumed(tmp_path, leave_one_out)()


def test_names_in_place_of_a_single_optimizer_are_refused(tmp_path):
    class Named(TinySession):
        def init_optimizer(self):
            return {"all": super().init_optimizer()}

    session_with(tmp_path, StopAt(3))()
    Named.__name__ = Named.__qualname__ = "TinySession"
    with pytest.raises(
        CheckpointError, match="single optimizer of the class Adam, and this session built the optimizers 'all'"
    ):
        Named.resume(tmp_path)()


def test_a_changed_value_is_used_and_said_with_the_name(tmp_path, caplog):
    def change(named):
        named["generator"].param_groups[0]["lr"] = 0.01
        return named

    session = resumed(tmp_path, change)
    with caplog.at_level(logging.WARNING, "torchbase"):
        session()
    assert "The optimizer continues with lr=0.01 instead of 0.05 of 'generator'." in caplog.text
    assert [one.param_groups[0]["lr"] for one in session.optimizer.values()] == [0.05, 0.01]
