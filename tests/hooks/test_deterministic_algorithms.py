import pytest
import torch
from tiny import TinySession, config_with


def test_the_switch_is_on_while_the_run_lasts_and_off_afterwards(tmp_path):
    seen = set()

    class Looking(TinySession):
        def forward_pass(self, mini_batch):
            seen.add(torch.are_deterministic_algorithms_enabled())
            return super().forward_pass(mini_batch)

    Looking(config_with(deterministic=True), tmp_path)()
    assert seen == {True}
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_is_off_after_an_error_too(tmp_path):
    class Failing(TinySession):
        def forward_pass(self, mini_batch):
            raise KeyError

    with pytest.raises(KeyError):
        Failing(config_with(deterministic=True), tmp_path)()
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_is_not_registered_unless_asked_for(tmp_path):
    assert "deterministic_algorithms" not in TinySession(config_with(), tmp_path).hooks
