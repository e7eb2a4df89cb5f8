"""The config of a run: its sections and keys, and the errors in it, reported all at once."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from torchbase.errors import ConfigError, nearest_name
from torchbase.files.json_values import child_path, described, json_errors, json_form
from torchbase.intervals import Interval
from torchbase.run_directory.devices import available_devices, parse_device

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

    Types are strict: ``"10"``, ``10.0`` and ``True`` are not whole numbers. An int is accepted for a float. The
    documentation's page about the config lists the keys. Its table is generated from the fields of this class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    # The documentation lists each field: its title as the expected value, its description as
    # the meaning. Errors show the title.
    device_name: str = Field(
        title="'auto' or a name that torch.device knows, such as 'cpu', 'cuda:1' or 'mps'",
        description='The device that trains the network. `"auto"` is the current accelerator of torch, or the CPU on a '
        "machine without one. Any other name must be that of a device of this machine.",
    )
    num_epochs: int = Field(
        ge=1,
        title=_COUNT,
        description="Passes over the training set. In a resumed run, the epochs before it count.",
    )
    mini_batch_size: int = Field(
        ge=1,
        title=_COUNT,
        description="Samples per mini-batch, in training and validation. The last mini-batch of an epoch holds the "
        "remaining samples.",
    )
    learning_rate: float = Field(
        gt=0,
        title="a number greater than 0",
        description="Step size of the default optimizer, Adam. A custom `init_optimizer` may read it.",
    )
    validation_mini_batch_size: int | None = Field(
        default=None,
        ge=1,
        title=f"{_COUNT}, or None",
        description="Samples per mini-batch of a validation set; None means `mini_batch_size`. Validation computes no "
        "gradients, so larger mini-batches fit into memory.",
    )
    weight_decay: float = Field(
        default=0.0, ge=0, title="a number of at least 0", description="Weight decay of the default optimizer."
    )
    mini_batch_parts: int | None = Field(
        default=None,
        ge=1,
        title=f"{_COUNT}, or None",
        description="Parts in which each mini-batch is computed, one after the other, before the optimizer steps. "
        "Memory is needed for the activations of one part. With None, mini-batches are computed as a whole.",
    )
    iterations_per_epoch: int | None = Field(
        default=None,
        ge=1,
        title=f"{_COUNT}, or None",
        description="Training iterations per epoch, for a training set that is a stream. With None, an epoch is one "
        "pass over the training set.",
    )
    dataloader_num_workers: int = Field(
        default=0,
        ge=0,
        title="a whole number of at least 0",
        description="Processes that load data in advance; 0 loads it in the main process. The mini-batches are the "
        "same for any number.",
    )
    loss_function_params: dict[str, Any] | None = Field(
        default=None,
        title="a dict with keys of str, or None",
        description="Parameters for the loss. Your `loss_function` reads them from "
        "`self.config_session.loss_function_params`; tuples have become lists.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        title="a whole number from 0 to 2**63 - 1, or None",
        description="Seed of all random numbers. With None, a seed is drawn. It is saved in `states/seeds.json`.",
    )
    checkpoint_every_n_iterations: int | None = Field(
        default=None,
        ge=1,
        title=f"{_COUNT}, or None",
        description="Training iterations between checkpoints, counted over the whole run. Another checkpoint is saved "
        "after each epoch. None turns it off.",
    )
    checkpoint_every_seconds: float | None = Field(
        default=60.0,
        gt=0,
        title="a number greater than 0, or None",
        description="Seconds between checkpoints. Another checkpoint is saved after each epoch. None turns it off.",
    )
    on_checkpoint_error: Literal["raise", "warn"] = Field(
        default="raise",
        title="'raise' or 'warn'",
        description='What happens when a checkpoint can\'t be written, as on a full disk. `"raise"` ends the run with '
        'the error; `"warn"` logs a warning and continues. Earlier checkpoints stay.',
    )
    on_logging_error: Literal["raise", "warn"] = Field(
        default="warn",
        title="'raise' or 'warn'",
        description="What happens when a logging backend fails, as when its server is gone or the disk is full. "
        '`"warn"` logs one warning that names the backend, and continues; `"raise"` ends the run with the error at the '
        "next iteration.",
    )
    nan_policy: Literal["raise", "skip", "stop"] = Field(
        default="raise",
        title="'raise', 'skip' or 'stop'",
        description='What happens when a loss is NaN or infinite. `"raise"` ends the run with an error, `"skip"` skips '
        'the mini-batch, `"stop"` skips it and ends the run.',
    )
    log_every_n_iterations: int = Field(
        default=1,
        ge=1,
        title=_COUNT,
        description="Iterations from one recorded iteration to the next, starting with the first. Averages include "
        "all iterations.",
    )
    metrics_every_n_iterations: int = Field(
        default=10,
        ge=1,
        title=_COUNT,
        description="Iterations from one computation of the metrics to the next, starting with the first of each "
        "epoch. The values of an epoch cover all samples of a validation set, and these mini-batches of the training "
        "set.",
    )
    deterministic: bool = Field(
        default=False,
        title="True or False",
        description="Whether torch uses deterministic algorithms only, during the run. Some operations then raise an "
        "error.",
    )
    plugins: tuple[str, ...] = Field(
        default=(),
        title="a list or tuple of plugin names (str)",
        description="Names of hooks that installed packages provide as entry points. They come after the default "
        "hooks, in this order.",
    )

    @property
    def checkpoint_intervals(self) -> list[Interval]:
        """How often a checkpoint is saved: after each epoch, and within epochs."""
        iterations, seconds = self.checkpoint_every_n_iterations, self.checkpoint_every_seconds
        in_iterations = [] if iterations is None else [Interval(iterations, "it")]
        in_seconds = [] if seconds is None else [Interval(seconds, "s")]
        return [Interval(1, "ep"), *in_iterations, *in_seconds]

    @field_validator("device_name")
    @classmethod
    def _check_device_name(cls, device_name: str) -> str:
        if device_name != "auto":
            parse_device(device_name)
        return device_name

    @field_validator("plugins", mode="before")
    @classmethod
    def _list_as_tuple(cls, plugins: object) -> object:
        return tuple(plugins) if isinstance(plugins, list) else plugins


@dataclass(frozen=True)
class Config:
    """A valid config. It shares nothing with the dictionary that it was made from.

    Two configs are equal when their dictionaries are equal as JSON, where a tuple is a list.

    Attributes:
        session: The section ``session``, with the defaults filled in.
        data: The section ``data``, unchanged; ``{}`` without the section.
        metrics: Names of metrics by the name of their metrics class; ``{}`` without the section.
        network: The section ``network``, unchanged. It has the key ``architecture``.
        as_given: The whole dictionary without defaults, in JSON form (lists for tuples), as it is saved with the run.
    """

    session: SessionConfig
    data: dict[str, Any] = field(compare=False)
    metrics: dict[str, list[str]]
    network: dict[str, Any] = field(compare=False)
    as_given: dict[str, Any]


def validate_config(config: Mapping[str, Any]) -> Config:
    """Checks the config dictionary of a run.

    Args:
        config: The sections ``session`` and ``network``, and optionally ``data`` and ``metrics``, with values that
            JSON can hold. It is not changed. Later changes to it don't affect the result.

    Returns:
        The config with its defaults filled in.

    Raises:
        ConfigError: If the config is invalid. The message lists all errors, each with its path.
    """
    if not isinstance(config, Mapping):
        sections = ", ".join(_SECTIONS)
        raise ConfigError(f"The config has to be a dictionary with the sections {sections}; got {described(config)}.")
    if errors := _find_errors(config):
        raise ConfigError(_report(errors))
    sections = {name: copy.deepcopy(section) for name, section in config.items()}
    return Config(
        session=SessionConfig.model_validate(json_form(sections["session"])),
        data=sections.get("data", {}),
        metrics={class_name: list(names) for class_name, names in sections.get("metrics", {}).items()},
        network=sections["network"],
        as_given=json_form(sections),
    )


def _report(errors: Mapping[str, str]) -> str:
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    lines = [f"  {path}: {problem}" for path, problem in sorted(errors.items())]
    fix = "To fix, correct each of these in the config dictionary. SessionConfig documents the keys of 'session'."
    return "\n".join([f"The config has {count}:", *lines, fix])


def _find_errors(config: Mapping[str, Any]) -> dict[str, str]:
    checks = {"session": _session_errors, "metrics": _metrics_errors, "network": _network_errors}
    errors = {name: f"missing; expected {_SECTIONS[name]}" for name in ("session", "network") if name not in config}
    for name, section in config.items():
        if name not in _SECTIONS:
            errors[child_path("", name)] = _unknown("section", name, _SECTIONS)
        elif type(section) is not dict:
            errors[name] = f"expected {_SECTIONS[name]}, got {described(section)}"
        else:
            errors |= json_errors(section, name) if name not in checks else checks[name](section)
    return errors


def _session_errors(section: dict[str, Any]) -> dict[str, str]:
    fields = SessionConfig.model_fields
    errors = _field_errors({key: value for key, value in section.items() if key in fields})
    errors |= {key: _unknown("key", key, fields) for key in section if isinstance(key, str) and key not in fields}
    errors |= _parts_errors({key: value for key, value in section.items() if key not in errors})
    others = {key: value for key, value in section.items() if key not in errors}
    return json_errors(others, "session") | {child_path("session", key): text for key, text in errors.items()}


def _parts_errors(section: dict[str, Any]) -> dict[str, str]:
    parts = section.get("mini_batch_parts")
    for key in ("mini_batch_size", "validation_mini_batch_size"):
        if parts is not None and section.get(key) is not None and section[key] < parts:
            return {"mini_batch_parts": f"expected at most {key}, which is {section[key]}, got {parts}"}
    return {}


def _field_errors(section: dict[str, Any]) -> dict[str, str]:
    try:
        SessionConfig.model_validate(section)
    except ValidationError as error:
        names = {str(details["loc"][0]) for details in error.errors()}
        errors = {name: _unexpected(section, name, SessionConfig.model_fields[name].title) for name in names}
        hints = {"device_name": f"; this machine has {available_devices()}"}
        return {name: problem + hints.get(name, "") for name, problem in errors.items()}
    return {}


def _metrics_errors(section: dict[str, Any]) -> dict[str, str]:
    errors = json_errors(section, "metrics")
    for class_name, names in section.items():
        errors |= _name_errors(names, child_path("metrics", class_name))
    return errors


def _name_errors(names: object, path: str) -> dict[str, str]:
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        hint = f"; write [{names!r}]" if isinstance(names, str) else ""
        return {path: f"expected a list of metric names (str), got {described(names)}{hint}"}
    repeated = ", ".join(sorted({repr(name) for name in names if names.count(name) > 1}))
    return {path: f"expected each metric once, got {repeated} more than once"} if repeated else {}


def _network_errors(section: dict[str, Any]) -> dict[str, str]:
    errors = json_errors(section, "network")
    architecture = section.get("architecture")
    if not isinstance(architecture, str) or not architecture.strip():
        errors["network.architecture"] = _unexpected(section, "architecture", _ARCHITECTURE)
    return errors


def _unexpected(section: dict[str, Any], name: str, expected: str | None) -> str:
    return (
        f"expected {expected}, got {described(section[name])}" if name in section else f"missing; expected {expected}"
    )


def _unknown(kind: str, name: object, known: Iterable[str]) -> str:
    nearest = nearest_name(name, known := list(known))
    return f"unknown {kind}; " + (
        f"did you mean {nearest!r}?" if nearest is not None else f"available: {', '.join(known)}"
    )
