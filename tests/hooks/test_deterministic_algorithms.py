import pytest
import torch
from tiny import TinySession, config_with


def test_the_setting_is_enabled_during_the_run_and_restored_after_it(tmp_path):
    settings = set()

    class RecordsSetting(TinySession):
        def forward_pass(self, mini_batch):
            settings.add(torch.are_deterministic_algorithms_enabled())
            return super().forward_pass(mini_batch)

    RecordsSetting(config_with(deterministic=True), tmp_path)()
    assert settings == {True}
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_setting_is_restored_after_an_error(tmp_path):
    class Failing(TinySession):
        def forward_pass(self, mini_batch):
            raise KeyError

    with pytest.raises(KeyError):
        Failing(config_with(deterministic=True), tmp_path)()
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_hook_is_not_registered_by_default(tmp_path):
    assert "deterministic_algorithms" not in TinySession(config_with(), tmp_path).hooks
