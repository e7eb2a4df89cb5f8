"""The config of a run: its sections and keys, and the errors in it, reported all at once."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from torchbase.errors import ConfigError, nearest_name
from torchbase.files.json_values import child_path, described, json_errors, json_form
from torchbase.run_directory.devices import available_devices
from torchbase.run_directory.session_config import SessionConfig

_SECTIONS = {
    "session": "a dict with at least device_name, num_epochs or num_iterations, mini_batch_size and learning_rate",
    "data": "a dict, or no such section",
    "metrics": "a dict of class name to a list of metric names, or no such section",
    "network": "a dict with at least architecture",
}
_ARCHITECTURE = "the name of a network architecture (a str that is not empty)"


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
    errors |= _bound_errors(section)
    errors |= _parts_errors({key: value for key, value in section.items() if key not in errors})
    others = {key: value for key, value in section.items() if key not in errors}
    return json_errors(others, "session") | {child_path("session", key): text for key, text in errors.items()}


def _bound_errors(section: dict[str, Any]) -> dict[str, str]:
    if section.get("num_epochs") is None and section.get("num_iterations") is None:
        expected = f"{SessionConfig.model_fields['num_epochs'].title}, or num_iterations in its place"
        return {"num_epochs": _unexpected(section, "num_epochs", expected)}
    return {}


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
