"""Whether the processes of a training have the same program, config, data and network."""

import hashlib
import inspect
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchbase.data.kinds import is_stream
from torchbase.data.own_order_loader import OwnOrderLoader
from torchbase.data.stream_sharing import checksum_of as checksum_of_samples
from torchbase.distributed.processes import Processes
from torchbase.distributed.shards import is_shard
from torchbase.engine.named_optimizers import by_name
from torchbase.engine.run import Run
from torchbase.errors import ProcessesDifferError
from torchbase.files.json_values import differences
from torchbase.randomness.streams import isolate_rng, seed_host_streams
from torchbase.run_directory.environment import version_of

if TYPE_CHECKING:
    from datasets import Dataset

    from torchbase.run_directory.config import Config

Facts = Mapping[str, Mapping[str, Any]]

ROWS_COMPARED = 16
DIFFERENCES_SHOWN = 10
_MOST_BYTES_COMPARED = 2**24
_MOST_INGREDIENTS_LISTED = 100
_PACKAGES = ("torchbase", "datasets", "numpy")


def check_alike(processes: Processes, collect: Callable[[], Facts]) -> None:
    """Checks that facts are the same on each process. All processes have to call it.

    Args:
        processes: The processes.
        collect: Returns values in JSON form by what they describe and by name. A process alone doesn't call it.

    Raises:
        ProcessesDifferError: If some differ. It is raised on each process, and names them.
        ProcessError: If another process has ended or doesn't answer.
    """
    if processes.count == 1:
        return
    facts = collect()
    checksums = processes.gather(checksum_of(json.dumps(facts, sort_keys=True).encode()), "the comparison of checksums")
    if len({*checksums}) == 1:
        return
    every = processes.gather(facts, "the comparison of the processes")
    lines = [line for index, other in enumerate(every) for line in _list_differences(every[0], index, other)]
    if len(lines) > DIFFERENCES_SHOWN:
        lines[DIFFERENCES_SHOWN:] = [f"{len(lines) - DIFFERENCES_SHOWN} more"]
    listed = "\n".join(f"- {line}" for line in lines)
    raise ProcessesDifferError(
        f"The processes of this training differ from process 0:\n{listed}\nTo fix, start the same program with the "
        "same arguments, data and packages on each machine."
    )


def _list_differences(main: Facts, index: int, other: Facts) -> Iterator[str]:
    for name in dict.fromkeys((*main, *other)):
        for one in differences(main.get(name, {}), other.get(name, {})):
            yield f"in {name}, {one.path}: {one.old!r} on process 0, {one.new!r} on process {index}"


def facts_of_program(
    config: "Config", hooks: Mapping[str, object], session_class: type, device: torch.device
) -> dict[str, dict[str, Any]]:
    """Returns what has to be the same on each process before a run directory is made.

    Args:
        config: The config.
        hooks: The registered hooks by name.
        session_class: The class of the session.
        device: The device of this process.
    """
    packages = {name: version_of(name) for name in _PACKAGES}
    versions = {"Python": platform.python_version(), "torch": str(torch.__version__), **packages}
    return {
        "the config": config.as_given,
        "the versions": versions,
        "the code": code_of([session_class]),
        "the session": {"class": session_class.__qualname__, "device": device.type},
        **facts_of_call(hooks),
    }


def facts_of_run(run: Run, datasets: Mapping[str, object], ingredients: object = None) -> dict[str, dict[str, Any]]:
    """Returns what has to be the same on each process before training.

    Args:
        run: The run.
        datasets: The datasets by the names of their phases.
        ingredients: What ``init_ingredients`` returned; None without the method.
    """
    facts = {f"the data of {name}": describe_dataset(dataset) for name, dataset in datasets.items()}
    if ingredients is not None:
        facts["the ingredients"] = _describe_ingredients(ingredients)
    for phase in run.phases:
        facts[f"the loader of {phase.name}"] = _describe_type_and_length(phase.loader)
        if isinstance(phase.loader, OwnOrderLoader):
            facts[f"the order of {phase.name}"] = dict(phase.loader.state_dict())
    facts["the run"] = {"epochs": run.max_epochs, "iterations": run.max_iterations}
    if run.network is not None:
        facts["the network"] = {name: _describe_tensor(value) for name, value in run.network.state_dict().items()}
        facts["the code of the network"] = code_of(type(module) for module in run.network.modules())
    for name, optimizer in by_name(run.optimizer).items():
        groups = [{key: _plain(value) for key, value in one.items()} for one in optimizer.param_groups]
        key = "the optimizer" if name is None else f"the optimizer '{name}'"
        facts[key] = {"class": type(optimizer).__qualname__, "groups": groups}
    if run.turns is not None:
        facts["the turns of the optimizers"] = {"names": " ".join(run.turns.names)}
    return facts


def _describe_ingredients(ingredients: object) -> dict[str, str]:
    """Describes ingredients by their types, lengths and, if JSON can hold them, contents in order."""
    if isinstance(ingredients, Mapping) and len(ingredients) <= _MOST_INGREDIENTS_LISTED:
        return {str(name): _describe_ingredient(one) for name, one in ingredients.items()}
    return {"all": _describe_ingredient(ingredients)}


def _describe_ingredient(one: object) -> str:
    length = f" of length {len(one)}" if isinstance(one, Sized) else ""
    try:
        content = f" with checksum {checksum_of(json.dumps(one, sort_keys=True).encode())}"
    except (TypeError, ValueError, RecursionError):  # an object of a library, of which only the type is compared
        content = ""
    return f"{type(one).__qualname__}{length}{content}"


def facts_of_call(hooks: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """Returns what has to be the same on each process whenever the session is called.

    Args:
        hooks: The registered hooks by name.
    """
    return {
        "the hooks": {name: type(hook).__qualname__ for name, hook in hooks.items()},
        "the order of the hooks": {"names": " ".join(hooks)},
        "the code of the hooks": code_of(map(type, hooks.values())),
    }


def code_of(classes: Iterable[type]) -> dict[str, str]:
    """Returns the checksum of the file of each class and its base classes, except those of torch and torchbase.

    Args:
        classes: The classes.

    Returns:
        The checksums by the name of the class. A class without a file, as in a notebook, is left out.
    """
    found: dict[str, str] = {}
    files: dict[str, str] = {}
    for one in dict.fromkeys(base for kind in classes for base in kind.__mro__):
        if one.__module__.partition(".")[0] in ("torch", "torchbase", "builtins"):
            continue
        try:
            file = inspect.getfile(one)
            files.setdefault(file, checksum_of(Path(file).read_bytes()))
        except (OSError, TypeError):
            continue
        found[one.__qualname__] = f"{Path(file).name} with checksum {files[file]}"
    return found


def describe_dataset(dataset: object) -> dict[str, Any]:
    """Describes a dataset by its type, length, columns and some rows, or the shards of a stream.

    Its fingerprint isn't used: it depends on paths, on times, and on what can't be hashed.

    Args:
        dataset: A dataset or a stream.

    Returns:
        The description, in JSON form.
    """
    from datasets import Dataset, IterableDataset

    described = _describe_type_and_length(dataset)
    if isinstance(dataset, Dataset | IterableDataset):
        described["columns"] = {name: str(feature) for name, feature in (dataset.features or {}).items()}
    if isinstance(dataset, IterableDataset):
        described["shards"] = dataset.num_shards
    if isinstance(dataset, Dataset):
        described["rows"] = _describe_rows(dataset)
    elif described["length"] and not is_stream(dataset):
        described["samples"] = _describe_samples(dataset)
    return described


def _describe_samples(dataset: Any) -> str:
    """Returns a checksum of the first and the last sample of any dataset, which may draw."""
    with isolate_rng():
        seed_host_streams(0)
        ends = [dataset[0], dataset[len(dataset) - 1]]
    return f"the first and the last with checksum {checksum_of_samples(ends)}"


def _describe_rows(dataset: "Dataset") -> str:
    """Returns a checksum of some rows, as they are stored, without the transforms."""
    length = len(dataset)
    positions = sorted({position * max(length - 1, 0) // (ROWS_COMPARED - 1) for position in range(ROWS_COMPARED)})
    stored = dataset.with_format("arrow")
    while length and len(positions) > 2 and stored[:1].nbytes * len(positions) > _MOST_BYTES_COMPARED:
        positions = [*positions[:-1:2], positions[-1]]
    rows = stored[positions[: length or 0]].to_pylist() if length else []
    return f"{len(rows)} of them with checksum {checksum_of(repr(rows).encode())}"


def _describe_type_and_length(one: object) -> dict[str, Any]:
    described: dict[str, Any] = {"class": type(one).__qualname__}
    try:
        described["length"] = len(one)  # type: ignore[arg-type]
    except TypeError:  # a stream has none
        described["length"] = None
    return described


def _describe_tensor(value: object) -> str:
    if not isinstance(value, torch.Tensor):  # extra state of a module
        return type(value).__qualname__
    if is_shard(value):  # its values are those of the main process
        return f"{tuple(value.shape)} of {value.dtype}, sharded"
    on_host = value.detach().cpu()
    if on_host.layout is not torch.strided:
        on_host = on_host.to_dense()
    content = on_host.contiguous().view(-1).view(torch.uint8).numpy()
    return f"{tuple(value.shape)} of {value.dtype}, checksum {checksum_of(content.tobytes())}"


def _plain(value: object) -> Any:
    if isinstance(value, torch.Tensor):
        return _describe_tensor(value)
    if isinstance(value, list | tuple):
        return len(value) if any(isinstance(one, torch.Tensor) for one in value) else [_plain(one) for one in value]
    # The text of any other object may have its address.
    return value if isinstance(value, str | int | float | bool | None) else type(value).__qualname__


def checksum_of(content: bytes) -> str:
    """Returns a short checksum.

    Args:
        content: The bytes.
    """
    return hashlib.sha256(content).hexdigest()[:12]
