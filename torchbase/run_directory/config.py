"""The config dictionary of a run: what it may hold, every mistake in it at once, and the device that it names."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from torchbase.errors import ConfigError, nearest_name
from torchbase.files.json_values import (
    child_path,
    described,
    json_form,
    json_mistakes,
)
from torchbase.intervals import Interval

_SECTIONS = {
    "session": "a dict with at least device_name, num_epochs, mini_batch_size and learning_rate",
    "data": "a dict, or no such section",
    "metrics": "a dict of class name to a list of metric names, or no such section",
    "network": "a dict with at least architecture",
}
_COUNT = "a whole number of at least 1"
_ARCHITECTURE = "the name of a network architecture (a str that is not empty)"


class SessionConfig(BaseModel):
    """How a run trains: the section ``session`` of its config, with the defaults filled in.

    Types are strict: ``"10"``, ``10.0`` and ``True`` are not whole numbers, while an int will do for a float.

    Attributes:
        device_name: ``"auto"`` or a name that ``torch.device`` knows; see ``choose_device``.
        num_epochs: Passes over the training split, at least 1; or epochs of ``iterations_per_epoch``.
        mini_batch_size: Samples in one mini-batch, at least 1.
        validation_mini_batch_size: Samples in one mini-batch of a validation set, at least 1; None takes
            ``mini_batch_size``.
        learning_rate: Step size of the optimizer, finite and above 0.
        weight_decay: Weight decay of the optimizer, at least 0.
        iterations_per_epoch: Training iterations in an epoch, where the training set is a stream; None makes an epoch
            of one pass over it.
        dataloader_num_workers: Processes that load data; 0 loads it in the training process.
        loss_function_params: Parameters of the loss function by name, in JSON form (lists for tuples), or None.
        seed: Seed of the random number generators, from 0 to 2**63 - 1; None draws one, which is kept.
        checkpoint_every_n_iterations: Iterations from one checkpoint to the next; None counts none.
        checkpoint_every_seconds: Seconds from one checkpoint to the next; None watches no clock.
        on_checkpoint_error: What becomes of an error of the disk in writing a checkpoint: ``"raise"`` ends the run with
            it, ``"warn"`` lets the training go on.
        on_logging_error: What becomes of an error in a logging backend: ``"warn"`` tells of it once and lets the
            training go on, ``"raise"`` ends the run with it.
        nan_policy: What a loss that is NaN or infinite does: ``"raise"`` ends the run with an error, ``"skip"`` leaves
            the mini-batch out, ``"stop"`` leaves it out and ends the run.
        log_every_n_iterations: Iterations from one log entry to the next, at least 1.
        metrics_every_n_iterations: Of how many training iterations the metrics of one are computed, counted from the
            first of each epoch; at least 1.
        deterministic: Whether torch uses deterministic algorithms only.
        plugins: Names of the plugins to load, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    # A description says what an error reports as expected.
    device_name: str = Field(description="'auto' or a name that torch.device knows, such as 'cpu', 'cuda:1' or 'mps'")
    num_epochs: int = Field(ge=1, description=_COUNT)
    mini_batch_size: int = Field(ge=1, description=_COUNT)
    learning_rate: float = Field(gt=0, description="a number greater than 0")
    validation_mini_batch_size: int | None = Field(default=None, ge=1, description=f"{_COUNT}, or None")
    weight_decay: float = Field(default=0.0, ge=0, description="a number of at least 0")
    iterations_per_epoch: int | None = Field(default=None, ge=1, description=f"{_COUNT}, or None")
    dataloader_num_workers: int = Field(default=0, ge=0, description="a whole number of at least 0")
    loss_function_params: dict[str, Any] | None = Field(default=None, description="a dict with keys of str, or None")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="a whole number from 0 to 2**63 - 1, or None")
    checkpoint_every_n_iterations: int | None = Field(default=None, ge=1, description=f"{_COUNT}, or None")
    checkpoint_every_seconds: float | None = Field(default=60.0, gt=0, description="a number greater than 0, or None")
    on_checkpoint_error: Literal["raise", "warn"] = Field(default="raise", description="'raise' or 'warn'")
    on_logging_error: Literal["raise", "warn"] = Field(default="warn", description="'raise' or 'warn'")
    nan_policy: Literal["raise", "skip", "stop"] = Field(default="raise", description="'raise', 'skip' or 'stop'")
    log_every_n_iterations: int = Field(default=1, ge=1, description=_COUNT)
    metrics_every_n_iterations: int = Field(default=10, ge=1, description=_COUNT)
    deterministic: bool = Field(default=False, description="True or False")
    plugins: tuple[str, ...] = Field(default=(), description="a list or tuple of plugin names (str)")

    @property
    def checkpoint_intervals(self) -> list[Interval]:
        """How often a checkpoint is written: at the end of each epoch, and in between."""
        iterations, seconds = self.checkpoint_every_n_iterations, self.checkpoint_every_seconds
        in_iterations = [] if iterations is None else [Interval(iterations, "it")]
        in_seconds = [] if seconds is None else [Interval(seconds, "s")]
        return [Interval(1, "ep"), *in_iterations, *in_seconds]

    @field_validator("device_name")
    @classmethod
    def _torch_knows(cls, device_name: str) -> str:
        if device_name != "auto":
            _parse_device(device_name)
        return device_name

    @field_validator("plugins", mode="before")
    @classmethod
    def _list_as_tuple(cls, plugins: object) -> object:
        return tuple(plugins) if isinstance(plugins, list) else plugins


@dataclass(frozen=True)
class Config:
    """A config without mistakes, which shares nothing with the dictionary that it came from.

    Two are equal when the dictionaries they came from are equal as JSON, where a tuple is a list.

    Attributes:
        session: How the run trains.
        data: The section ``data`` as given; ``{}`` without one.
        metrics: Names of the metrics by the class that computes them; ``{}`` without the section.
        network: The section ``network`` as given, with the key ``architecture``.
        as_given: The whole dictionary as given, in JSON form (lists for tuples), to keep with the run.
    """

    session: SessionConfig
    data: dict[str, Any] = field(compare=False)
    metrics: dict[str, list[str]]
    network: dict[str, Any] = field(compare=False)
    as_given: dict[str, Any]


def validate_config(config: Mapping[str, Any]) -> Config:
    """Check the config dictionary of a run.

    Args:
        config: The sections ``session`` and ``network`` and, where wanted, ``data`` and ``metrics``. Holds only
            what JSON can hold. It is not changed, and later changes in it don't reach the result.

    Returns:
        The config with its defaults filled in.

    Raises:
        ConfigError: If there are mistakes; it reports all of them, each with its path.
    """
    if not isinstance(config, Mapping):
        sections = ", ".join(_SECTIONS)
        raise ConfigError(f"The config has to be a dictionary with the sections {sections}; got {described(config)}.")
    if mistakes := _all_mistakes(config):
        raise ConfigError(_report(mistakes))
    given = {name: copy.deepcopy(section) for name, section in config.items()}
    return Config(
        session=SessionConfig.model_validate(json_form(given["session"])),
        data=given.get("data", {}),
        metrics={class_name: list(names) for class_name, names in given.get("metrics", {}).items()},
        network=given["network"],
        as_given=json_form(given),
    )


def _report(mistakes: Mapping[str, str]) -> str:
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    lines = [f"  {path}: {wrong}" for path, wrong in sorted(mistakes.items())]
    mend = "To fix: correct each of these in the config dictionary; SessionConfig documents the keys of 'session'."
    return "\n".join([f"The config has {count}:", *lines, mend])


def _all_mistakes(config: Mapping[str, Any]) -> dict[str, str]:
    checks = {"session": _session_mistakes, "metrics": _metrics_mistakes, "network": _network_mistakes}
    mistakes = {name: f"missing; expected {_SECTIONS[name]}" for name in ("session", "network") if name not in config}
    for name, section in config.items():
        if name not in _SECTIONS:
            mistakes[child_path("", name)] = _unknown("section", name, _SECTIONS)
        elif type(section) is not dict:
            mistakes[name] = f"expected {_SECTIONS[name]}, got {described(section)}"
        else:
            mistakes |= json_mistakes(section, name) if name not in checks else checks[name](section)
    return mistakes


def _session_mistakes(section: dict[str, Any]) -> dict[str, str]:
    fields = SessionConfig.model_fields
    wrong = _wrong_fields({key: value for key, value in section.items() if key in fields})
    wrong |= {key: _unknown("key", key, fields) for key in section if isinstance(key, str) and key not in fields}
    others = {key: value for key, value in section.items() if key not in wrong}
    return json_mistakes(others, "session") | {child_path("session", name): what for name, what in wrong.items()}


def _wrong_fields(section: dict[str, Any]) -> dict[str, str]:
    try:
        SessionConfig.model_validate(section)
    except ValidationError as error:
        names = {str(details["loc"][0]) for details in error.errors()}
        wrong = {name: _wrong(section, name, SessionConfig.model_fields[name].description) for name in names}
        there_is = {"device_name": f"; this machine has {_devices_here()}"}
        return {name: what + there_is.get(name, "") for name, what in wrong.items()}
    return {}


def _metrics_mistakes(section: dict[str, Any]) -> dict[str, str]:
    mistakes = json_mistakes(section, "metrics")
    for class_name, names in section.items():
        mistakes |= _name_mistakes(names, child_path("metrics", class_name))
    return mistakes


def _name_mistakes(names: object, path: str) -> dict[str, str]:
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        hint = f"; write [{names!r}]" if isinstance(names, str) else ""
        return {path: f"expected a list of metric names (str), got {described(names)}{hint}"}
    repeated = ", ".join(sorted({repr(name) for name in names if names.count(name) > 1}))
    return {path: f"expected each metric once, got {repeated} more than once"} if repeated else {}


def _network_mistakes(section: dict[str, Any]) -> dict[str, str]:
    mistakes = json_mistakes(section, "network")
    architecture = section.get("architecture")
    if not isinstance(architecture, str) or not architecture.strip():
        mistakes["network.architecture"] = _wrong(section, "architecture", _ARCHITECTURE)
    return mistakes


def _wrong(section: dict[str, Any], name: str, expected: str | None) -> str:
    return (
        f"expected {expected}, got {described(section[name])}" if name in section else f"missing; expected {expected}"
    )


def _unknown(kind: str, name: object, known: Iterable[str]) -> str:
    nearest = nearest_name(name, known := list(known))
    return f"unknown {kind}; " + (
        f"did you mean {nearest!r}?" if nearest is not None else f"known are {', '.join(known)}"
    )


def choose_device(device_name: str) -> torch.device:
    """Find the device that a config names on this machine.

    Args:
        device_name: ``"auto"`` for torch's current accelerator, or the CPU where there is none; else the name of
            a device of this machine, such as ``"cpu"`` or ``"cuda:1"``.

    Returns:
        The device, with an index only if the name has one.

    Raises:
        ConfigError: If torch doesn't know the name, or this machine doesn't have the device.
    """
    if device_name == "auto":
        return _accelerator() or torch.device("cpu")
    device = _parse_device(device_name)
    if (device.index or 0) >= _device_counts().get(device.type, 0):
        raise _no_device(device_name, "this machine")
    return device


def _parse_device(device_name: str) -> torch.device:
    try:
        # torch keeps 8 bits of an index: it reads cuda:256 as cuda:0.
        known = str(torch.device(device_name)) == device_name
    except RuntimeError as error:
        raise _no_device(device_name, "torch") from error
    if not known:
        raise _no_device(device_name, "torch")
    return torch.device(device_name)


def _no_device(device_name: str, who: str) -> ConfigError:
    problem = f"{who} has no device {device_name!r}; this machine has {_devices_here()}"
    return ConfigError(f"session.device_name: {problem}. To fix: name one of these, or 'auto'.")


def _accelerator() -> torch.device | None:
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def _device_counts() -> dict[str, int]:
    accelerator = _accelerator()
    return {"cpu": 1} | ({accelerator.type: torch.accelerator.device_count()} if accelerator else {})


def _devices_here() -> str:
    return ", ".join(f"{kind}:{index}" for kind, count in _device_counts().items() for index in range(count))
