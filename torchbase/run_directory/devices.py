"""The devices of this machine, by the names that a config uses."""

import torch

from torchbase.errors import ConfigError


def choose_device(device_name: str, local_index: int | None = None) -> torch.device:
    """Finds the device that a config names on this machine.

    Args:
        device_name: ``"auto"`` for torch's current accelerator, or the CPU on a machine without one; otherwise the
            name of a device of this machine, such as ``"cpu"`` or ``"cuda:1"``.
        local_index: The index of this process among those of the machine that train together, or None for a process
            alone. Without an index in the name, each process takes its own device, in turn.

    Returns:
        The device. It has an index only if the name has one, or there are several processes.

    Raises:
        ConfigError: If torch doesn't know the name, or this machine doesn't have the device.
    """
    if device_name == "auto":
        return _of_process(_accelerator() or torch.device("cpu"), local_index)
    device = parse_device(device_name)
    if (device.index or 0) >= _device_counts().get(device.type, 0):
        raise _missing_device(device_name, "this machine")
    return _of_process(device, local_index)


def check_is_not_shared(device_name: str, processes: int) -> None:
    """Checks that a config doesn't name one GPU for several processes of this machine.

    Args:
        device_name: The name in the config.
        processes: The number of processes of the training on this machine.

    Raises:
        ConfigError: If it does.
    """
    if device_name == "auto":
        return
    device = parse_device(device_name)
    if processes > 1 and device.type != "cpu" and device.index is not None:
        raise ConfigError(
            f"session.device_name: {device_name!r} is one device, and {processes} processes of this machine train "
            f"together. To fix, pass {device.type!r}, with which each of them takes a device of its own."
        )


def model_of(device: torch.device) -> str:
    """Returns the model of a device; for a CPU, the instructions that torch uses, such as ``AVX2``.

    Args:
        device: The device, of this machine.
    """
    if device.type == "cpu":
        return str(torch.backends.cpu.get_cpu_capability())
    return str(getattr(torch.get_device_module(device), "get_device_name", lambda one: one.type)(device))


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


def _of_process(device: torch.device, local_index: int | None) -> torch.device:
    if local_index is None or device.type == "cpu" or device.index is not None:
        return device
    return torch.device(device.type, local_index % _device_counts()[device.type])


def _missing_device(device_name: str, where: str) -> ConfigError:
    problem = f"{where} has no device {device_name!r}; this machine has {available_devices()}"
    return ConfigError(f"session.device_name: {problem}. To fix, name one of these, or 'auto'.")


def _accelerator() -> torch.device | None:
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def _device_counts() -> dict[str, int]:
    accelerator = _accelerator()
    return {"cpu": 1} | ({accelerator.type: torch.accelerator.device_count()} if accelerator else {})
