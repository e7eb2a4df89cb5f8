"""The devices of this machine, by the names that a config uses."""

import torch

from torchbase.errors import ConfigError


def choose_device(device_name: str) -> torch.device:
    """Finds the device that a config names on this machine.

    Args:
        device_name: ``"auto"`` for torch's current accelerator, or the CPU on a machine without one; otherwise the
            name of a device of this machine, such as ``"cpu"`` or ``"cuda:1"``.

    Returns:
        The device. It has an index only if the name has one.

    Raises:
        ConfigError: If torch doesn't know the name, or this machine doesn't have the device.
    """
    if device_name == "auto":
        return _accelerator() or torch.device("cpu")
    device = parse_device(device_name)
    if (device.index or 0) >= _device_counts().get(device.type, 0):
        raise _missing_device(device_name, "this machine")
    return device


def parse_device(device_name: str) -> torch.device:
    """Reads the name of a device, which this machine needn't have.

    Args:
        device_name: A name such as ``"cpu"`` or ``"cuda:1"``.

    Returns:
        The device.

    Raises:
        ConfigError: If torch doesn't know the name.
    """
    try:
        # torch stores 8 bits of an index: it reads cuda:256 as cuda:0.
        known = str(torch.device(device_name)) == device_name
    except RuntimeError as error:
        raise _missing_device(device_name, "torch") from error
    if not known:
        raise _missing_device(device_name, "torch")
    return torch.device(device_name)


def available_devices() -> str:
    """Returns the names of this machine's devices, such as ``"cpu:0, cuda:0"``."""
    return ", ".join(f"{kind}:{index}" for kind, count in _device_counts().items() for index in range(count))


def _missing_device(device_name: str, where: str) -> ConfigError:
    problem = f"{where} has no device {device_name!r}; this machine has {available_devices()}"
    return ConfigError(f"session.device_name: {problem}. To fix, name one of these, or 'auto'.")


def _accelerator() -> torch.device | None:
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def _device_counts() -> dict[str, int]:
    accelerator = _accelerator()
    return {"cpu": 1} | ({accelerator.type: torch.accelerator.device_count()} if accelerator else {})
