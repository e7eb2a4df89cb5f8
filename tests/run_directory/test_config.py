import copy
import dataclasses
import json
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from torchbase.errors import ConfigError
from torchbase.files.json_values import differences
from torchbase.run_directory.config import Config, validate_config
from torchbase.run_directory.session_config import SessionConfig

SESSION = {"device_name": "cpu", "num_epochs": 3, "mini_batch_size": 4, "learning_rate": 0.1}


def config_with(**sections: Any) -> dict[str, Any]:
    return {"session": dict(SESSION), "network": {"architecture": "Line"}, **sections}


def config_with_session(**fields: Any) -> dict[str, Any]:
    return config_with(session={**SESSION, **fields})


def errors_of(config: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        validate_config(config)
    first, *lines, last = str(caught.value).split("\n")
    assert first == f"The config has {len(lines)} error{'s' if len(lines) > 1 else ''}:"
    assert last.startswith("To fix, ")
    assert all(line.startswith("  ") for line in lines)
    return dict(line.strip().split(": ", 1) for line in lines)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
free_sections = st.dictionaries(st.text(max_size=5), values, max_size=2)
counts = st.integers(1, 10**6)
rates = st.integers(1, 9) | st.floats(1e-9, 1e3)
names = st.lists(st.text(max_size=5), unique=True, max_size=3)
sessions = st.fixed_dictionaries(
    {"learning_rate": rates},
    optional={
        "loss_function_params": st.none() | free_sections,
        "seed": st.none() | st.integers(0, 2**63 - 1),
        "checkpoint_every_n_iterations": st.none() | counts,
        "checkpoint_every_seconds": st.none() | rates,
        "deterministic": st.booleans(),
        "plugins": names | names.map(tuple),
    },
).map(lambda fields: {**SESSION, **fields})
configs = st.fixed_dictionaries(
    {"session": sessions, "network": free_sections.map(lambda section: {**section, "architecture": "Line"})},
    optional={"data": free_sections, "metrics": st.dictionaries(st.text(max_size=5), names.map(tuple), max_size=2)},
)


@settings(max_examples=40)
@given(configs)
def test_a_config_read_back_from_its_json_is_equal(config: dict[str, Any]) -> None:
    untouched = copy.deepcopy(config)
    first = validate_config(config)
    again = validate_config(json.loads(json.dumps(first.as_given)))
    assert again == first
    assert differences(first.as_given, again.as_given) == []
    assert again.session == first.session
    assert config == untouched


def test_defaults_are_filled_in() -> None:
    config = validate_config(config_with())
    assert config.data == {}
    assert config.metrics == {}
    assert str(config.session) == (
        "device_name='cpu' num_epochs=3 mini_batch_size=4 learning_rate=0.1 num_iterations=None "
        "validation_mini_batch_size=None drop_last=False weight_decay=0.0 mini_batch_parts=None "
        "distributed='replicate' iterations_per_epoch=None dataloader_num_workers=0 "
        "loss_function_params=None seed=None "
        "checkpoint_every_n_iterations=None checkpoint_every_seconds=60.0 on_checkpoint_error='raise' "
        "on_logging_error='warn' nan_policy='raise' preemption_signal=None log_every_n_iterations=1 "
        "metrics_every_n_iterations=10 deterministic=False group=None plugins=()"
    )


def test_sections_have_their_tuples_and_the_saved_form_has_lists() -> None:
    config = validate_config(config_with(data={"size": (2, 3)}, metrics={"Scores": ("accuracy", "f1")}))
    assert config.data == {"size": (2, 3)}
    assert config.metrics == {"Scores": ["accuracy", "f1"]}
    assert config.as_given == {
        "session": SESSION,
        "network": {"architecture": "Line"},
        "data": {"size": [2, 3]},
        "metrics": {"Scores": ["accuracy", "f1"]},
    }


def test_configs_differ_where_their_dictionaries_differ() -> None:
    assert validate_config(config_with(data={"a": 1})) != validate_config(config_with(data={"a": 2}))
    assert validate_config(config_with(data={"a": (1,)})) == validate_config(config_with(data={"a": [1]}))


def test_later_changes_in_the_dictionary_do_not_reach_the_config() -> None:
    original = config_with(data={"sizes": [[1]]}, metrics={"Scores": ["f1"]})
    original["session"] |= {"loss_function_params": {"weight": [1.0]}, "plugins": ["one"]}
    original["network"]["layers"] = [{"width": 3}]
    config = validate_config(original)
    before = copy.deepcopy(config)
    original["data"]["sizes"][0].append(2)
    original["metrics"]["Scores"].append("accuracy")
    original["session"]["loss_function_params"]["weight"].append(2.0)
    original["session"]["plugins"].append("two")
    original["network"]["layers"][0]["width"] = 4
    assert config == before
    assert (config.data, config.network) == (before.data, before.network)


def test_the_parts_of_a_config_share_nothing_even_if_the_sections_do() -> None:
    shared = {"architecture": "Line"}
    config = validate_config(config_with(data=shared, network=shared))
    config.data["architecture"] = "Other"
    assert config.network == config.as_given["network"] == config.as_given["data"] == {"architecture": "Line"}


def test_a_config_cannot_be_assigned_to() -> None:
    config = validate_config(config_with())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.data = {}  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.session.num_epochs = 4  # type: ignore[misc]


@pytest.mark.parametrize("wrap", [OrderedDict, MappingProxyType])
def test_any_mapping_is_accepted(wrap: Any) -> None:
    assert isinstance(validate_config(wrap(config_with())), Config)


@pytest.mark.parametrize("config", [None, "session", [("session", {})], SessionConfig(**SESSION)])
def test_a_config_that_is_not_a_mapping_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match="has to be a dictionary with the sections session, data, metrics, network"):
        validate_config(config)


def test_all_errors_are_reported_at_once_in_order() -> None:
    config = {"session": {"device_name": "cpu", "num_epoch": 3, "mini_batch_size": 4, "learning_rate": -0.1}}
    with pytest.raises(ConfigError) as caught:
        validate_config(config | {"network": {}, "data": {"transform": [{"fn": abs}]}})
    assert str(caught.value).split("\n") == [
        "The config has 5 errors:",
        "  data.transform[0].fn: expected a value that JSON can hold (dict, list, tuple, str, int, float, bool or "
        "None), got <built-in function abs> (builtin_function_or_method); pass its name",
        "  network.architecture: missing; expected the name of a network architecture (a str that is not empty)",
        "  session.learning_rate: expected a number greater than 0, got -0.1 (float)",
        "  session.num_epoch: unknown key; did you mean 'num_epochs'?",
        "  session.num_epochs: missing; expected a whole number of at least 1, or num_iterations in its place",
        "To fix, correct each of these in the config dictionary. SessionConfig documents the keys of 'session'.",
    ]


@pytest.mark.parametrize("bounds", [{"num_iterations": 5}, {"num_epochs": None, "num_iterations": 5}])
def test_the_number_of_epochs_or_that_of_iterations_is_enough(bounds: dict[str, Any]) -> None:
    without = {name: value for name, value in SESSION.items() if name != "num_epochs"}
    session = validate_config(config_with(session=without | bounds)).session
    assert (session.num_epochs, session.num_iterations) == (None, 5)


def test_missing_sections_and_keys_are_named() -> None:
    assert set(errors_of({})) == {"session", "network"}
    assert set(errors_of({"session": {}, "network": {}})) == {
        "network.architecture",
        *(f"session.{name}" for name in SESSION),
    }


@pytest.mark.parametrize("name", ["session", "data", "metrics", "network"])
@pytest.mark.parametrize("section", [None, [], "text", OrderedDict()])
def test_a_section_that_is_not_a_dict_is_refused(name: str, section: Any) -> None:
    error = errors_of(config_with(**{name: section}))[name]
    assert error.startswith("expected a dict")
    assert type(section).__qualname__ in error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, value) for name in ("num_epochs", "mini_batch_size") for value in ("10", True, 10.0, 0, -1, None)),
        *((name, 0) for name in ("log_every_n_iterations", "metrics_every_n_iterations")),
        *(("learning_rate", value) for value in (0, -1, "0.1", True, float("nan"), float("inf"), None, 10**400)),
        *(("weight_decay", value) for value in (-0.1, float("nan"), None)),
        *(("dataloader_num_workers", value) for value in (-1, 1.0)),
        *(("mini_batch_parts", value) for value in (0, 1.5, True, "2")),
        *(("iterations_per_epoch", value) for value in (0, 1.5, True, "10")),
        *(("num_iterations", value) for value in (0, 1.5, True, "10")),
        *(("validation_mini_batch_size", value) for value in (0, 1.5, True, "10")),
        *((name, value) for name in ("on_checkpoint_error", "on_logging_error") for value in ("ignore", None, True)),
        *(("nan_policy", value) for value in ("ignore", None, 1)),
        *(("preemption_signal", value) for value in ("USR1", "SIGKILL", "SIGINT", 10, True)),
        *(("seed", value) for value in (-1, 2**63, 1.0, True)),
        *(("loss_function_params", value) for value in ([], "weight", 1)),
        *(("checkpoint_every_n_iterations", value) for value in (0, 1.5)),
        *(("checkpoint_every_seconds", value) for value in (0, -1, float("inf"))),
        *(("deterministic", value) for value in (1, "yes", None)),
        *(("group", value) for value in ("", 3, True, ["widths"])),
        *(("plugins", value) for value in ("name", [1], None, {"name"})),
        *(("device_name", value) for value in ("", "gpu", "CPU", "cuda:x", "cuda:-1", "cuda:256", 0, None, "\ud800")),
    ],
)
def test_an_invalid_session_value_is_one_error_with_value_and_type(field: str, value: Any) -> None:
    errors = errors_of(config_with_session(**{field: value}))
    assert list(errors) == [f"session.{field}"]
    assert errors[f"session.{field}"].startswith("expected ")
    assert f"({type(value).__name__})" in errors[f"session.{field}"]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("learning_rate", 1, 1.0),
        ("checkpoint_every_seconds", None, None),
        ("checkpoint_every_seconds", 5, 5.0),
        ("checkpoint_every_n_iterations", 1, 1),
        ("seed", 2**63 - 1, 2**63 - 1),
        ("seed", 0, 0),
        ("preemption_signal", "SIGTERM", "SIGTERM"),
        ("group", "widths", "widths"),
        ("group", None, None),
        ("plugins", ["one", "two"], ("one", "two")),
        ("plugins", ("one",), ("one",)),
        ("device_name", "cuda:3", "cuda:3"),
        ("device_name", "mps", "mps"),
        ("device_name", "auto", "auto"),
    ],
)
def test_a_valid_session_value_is_accepted(field: str, value: Any, expected: Any) -> None:
    found = getattr(validate_config(config_with_session(**{field: value})).session, field)
    assert found == expected
    assert type(found) is type(expected)


def test_every_session_field_has_an_expected_value_and_a_meaning() -> None:
    for name, field in SessionConfig.model_fields.items():
        assert field.title, name
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        (config_with(metric={}), "metric", "unknown section; did you mean 'metrics'?"),
        (config_with(zebra={}), "zebra", "unknown section; available: session, data, metrics, network"),
        ({**config_with(), 3: {}}, "[3]", "unknown section; available: session, data, metrics, network"),
        (config_with_session(zzz=torch.ones(1)), "session.zzz", "unknown key; available: device_name, num_epochs, "),
        (config_with_session(**{"\ud800": 1}), r"session['\ud800']", "unknown key; available: "),
        (config_with(session={**SESSION, 3: 1}), "session[3]", "expected a key that is a str, got 3 (int)"),
        (config_with_session(device_name="gpu"), "session.device_name", "expected 'auto' or a name that torch.device"),
        (config_with_session(device_name="gpu"), "session.device_name", "got 'gpu' (str); this machine has cpu:0"),
        (config_with_session(learning_rate=np.float64(0.1)), "session.learning_rate", "(numpy.float64)"),
        (config_with_session(loss_function_params={"w": (1, {2})}), "session.loss_function_params.w[1]", "{2} (set)"),
        (config_with(data={"transform": [{"fn": abs}]}), "data.transform[0].fn", "pass its name"),
        (config_with(data={1: 2}), "data[1]", "expected a key that is a str, got 1 (int)"),
        (config_with(data={"limit": float("inf")}), "data.limit", "expected a finite number, got inf (float)"),
        (config_with(network={"architecture": "L", "mean": torch.ones(1)}), "network.mean", "pass its .tolist()"),
        (config_with(network={"architecture": " "}), "network.architecture", "got ' ' (str)"),
        (config_with(network={"architecture": None}), "network.architecture", "got None (NoneType)"),
        (config_with(metrics={"A": "f1"}), "metrics.A", "names (str), got 'f1' (str); write ['f1']"),
        (config_with(metrics={"A": ["x", "y", "x"]}), "metrics.A", "each metric once, got 'x' more than once"),
        (config_with(metrics={"A": [1]}), "metrics.A", "expected a list of metric names (str), got [1] (list)"),
        (config_with(metrics={"A": None}), "metrics.A", "got None (NoneType)"),
        (config_with(metrics={2: ["f1"]}), "metrics[2]", "expected a key that is a str, got 2 (int)"),
    ],
)
def test_an_error_is_reported_at_its_path(config: dict[str, Any], path: str, message: str) -> None:
    errors = errors_of(config)
    assert list(errors) == [path]
    assert message in errors[path]
