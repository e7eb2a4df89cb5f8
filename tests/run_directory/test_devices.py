import pytest
import torch

from torchbase.errors import ConfigError
from torchbase.run_directory.devices import available_devices, choose_device, parse_device


@pytest.mark.parametrize("device_name", ["cpu", "cpu:0"])
def test_the_cpu_can_always_be_chosen(device_name: str) -> None:
    assert choose_device(device_name) == torch.device(device_name)


@pytest.mark.parametrize(
    ("device_name", "where"),
    [
        *((name, "this machine") for name in ("cpu:1", "meta", "mps:7")),
        *((name, "torch") for name in ("gpu", "cpu:256")),
    ],
)
def test_a_missing_device_is_refused(device_name: str, where: str) -> None:
    with pytest.raises(ConfigError, match=f"{where} has no device '{device_name}'; this machine has cpu:0"):
        choose_device(device_name)


def test_auto_chooses_a_device_that_holds_tensors() -> None:
    device = choose_device("auto")
    expected = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    assert device == expected
    assert torch.ones(1, device=device).device.type == device.type


def test_an_accelerator_is_chosen_by_its_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="this machine has cpu:0, cuda:0, cuda:1"):
        choose_device("cuda:2")


def test_a_name_is_parsed_for_a_device_that_this_machine_may_not_have() -> None:
    assert parse_device("cuda:3") == torch.device("cuda:3")
    with pytest.raises(ConfigError, match="torch has no device 'cuda:256'"):
        parse_device("cuda:256")


def test_the_cpu_is_an_available_device() -> None:
    assert available_devices().split(", ")[0] == "cpu:0"
