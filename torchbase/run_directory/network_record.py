"""The record of a network in the run directory, ``network.json``: its modules, parameters and buffers.

It can be read without torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torchbase.files.durable import replace_file
from torchbase.run_directory.parsed_files import read_parsed

NETWORK_RECORD_FILE = "network.json"
FORMAT_VERSION = 1
_COUNTS = ((10**12, "T"), (10**9, "B"), (10**6, "M"))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class TensorRecord:
    """A parameter or buffer.

    Attributes:
        name: Its name in its module.
        shape: Its shape. If it is spread over several processes, that of the whole tensor; None if it isn't known yet.
        dtype: Its type, such as ``float32``.
        is_buffer: Whether it is a buffer.
        is_trainable: Whether it requires a gradient.
        same_as: The full name under which it was listed before; None for the first one.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    is_buffer: bool
    is_trainable: bool
    same_as: str | None


@dataclass(frozen=True)
class ModuleRecord:
    """A module with all modules in it. A parameter that occurs several times in it counts once.

    Attributes:
        name: Its full name; empty for the network itself.
        kind: The name of its class.
        parameters: The number of elements of all its parameters.
        trainable: Those of parameters that require a gradient.
        size: The bytes of its parameters and buffers.
        tensors: The parameters and buffers of the module itself, without those of the modules in it.
    """

    name: str
    kind: str
    parameters: int
    trainable: int
    size: int
    tensors: tuple[TensorRecord, ...]


@dataclass(frozen=True)
class NetworkRecord:
    """A network.

    Attributes:
        modules: The modules, each before those in it. The first one is the network.
        optimizers: The number of elements that each of several optimizers trains, by its name.
    """

    modules: tuple[ModuleRecord, ...]
    optimizers: Mapping[str, int]

    @property
    def network(self) -> ModuleRecord:
        """The network itself."""
        return self.modules[0]


def write_network(folder: Path, record: NetworkRecord) -> None:
    """Replaces the record of the network.

    Args:
        folder: The run directory.
        record: The record.

    Raises:
        RunDirectoryError: If the operating system reports an error.
    """
    content = {"format_version": FORMAT_VERSION, **asdict(record)}
    replace_file(folder / NETWORK_RECORD_FILE, json.dumps(content).encode() + b"\n")


def read_network(folder: Path) -> NetworkRecord | None:
    """Reads the record of the network.

    Args:
        folder: The run directory.

    Returns:
        The record; None if the run wrote none.

    Raises:
        RunDirectoryError: If the file can't be read, or isn't such a record.
    """
    return read_parsed(folder / NETWORK_RECORD_FILE, _parse)


def describe_network(record: NetworkRecord) -> str:
    """Describes a network in less than 80 characters.

    Args:
        record: The record.
    """
    network, count = record.network, len(record.modules)
    trainable = "" if network.trainable == network.parameters else f" ({format_count(network.trainable)} trainable)"
    modules = f"{count:,} module{'' if count == 1 else 's'}"
    return f"{format_count(network.parameters)} parameters{trainable} in {modules}, {format_size(network.size)}"


def format_count(count: int) -> str:
    """Formats a number of parameters: exactly up to a million, then such as ``7.24B``.

    Args:
        count: The number.
    """
    for unit, name in _COUNTS:
        if count >= unit:
            return f"{count / unit:.4g}{name}" if count < 1000 * unit else f"{count // unit:,}{name}"
    return f"{count:,}"


def format_size(size: float) -> str:
    """Formats a number of bytes, such as ``3.5 MiB``.

    Args:
        size: The number.
    """
    for name in _SIZES:
        if size < 1024 or name == _SIZES[-1]:
            break
        size /= 1024
    return f"{size:.0f} {name}" if name == "B" else f"{size:,.1f} {name}"


def _parse(value: Any) -> NetworkRecord:
    if value["format_version"] != FORMAT_VERSION:
        raise ValueError(f"it has format {value['format_version']}, and this version of torchbase reads format 1")
    modules = tuple(_parse_module(module) for module in value["modules"])
    if not modules:
        raise ValueError("it has no module")
    return NetworkRecord(modules, {str(name): int(count) for name, count in value["optimizers"].items()})


def _parse_module(value: Mapping[str, Any]) -> ModuleRecord:
    return ModuleRecord(
        name=str(value["name"]),
        kind=str(value["kind"]),
        parameters=int(value["parameters"]),
        trainable=int(value["trainable"]),
        size=int(value["size"]),
        tensors=tuple(map(_parse_tensor, value["tensors"])),
    )


def _parse_tensor(value: Mapping[str, Any]) -> TensorRecord:
    return TensorRecord(
        name=str(value["name"]),
        shape=None if value["shape"] is None else tuple(int(size) for size in value["shape"]),
        dtype=str(value["dtype"]),
        is_buffer=bool(value["is_buffer"]),
        is_trainable=bool(value["is_trainable"]),
        same_as=None if value["same_as"] is None else str(value["same_as"]),
    )
