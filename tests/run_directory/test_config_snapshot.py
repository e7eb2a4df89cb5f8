import json
import logging
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import CONFIG, TinySession, config_with

from torchbase.errors import ConfigError, RunDirectoryError
from torchbase.files.durable import write_json
from torchbase.run_directory.config import validate_config
from torchbase.run_directory.config_snapshot import (
    MAY_CHANGE,
    added_snapshot,
    check_config,
    config_changes,
    newest_config,
    snapshots,
)
from torchbase.run_directory.session_config import SessionConfig

ALLOWED = {
    "mini_batch_parts": 2,
    "num_epochs": 3,
    "num_iterations": 7,
    "distributed": "shard",
    "device_name": "auto",
    "dataloader_num_workers": 2,
    "checkpoint_every_n_iterations": 5,
    "checkpoint_every_seconds": None,
    "on_checkpoint_error": "warn",
    "on_logging_error": "raise",
    "nan_policy": "skip",
    "preemption_signal": "SIGTERM",
    "log_every_n_iterations": 10,
    "metrics_every_n_iterations": 1,
    "seed": 8,
    "group": "widths",
}
REFUSED = {
    "mini_batch_size": 5,
    "learning_rate": 0.06,
    "validation_mini_batch_size": 8,
    "drop_last": True,
    "weight_decay": 0.1,
    "iterations_per_epoch": 3,
    "loss_function_params": {"weight": 2.0},
    "deterministic": True,
    "plugins": ["mine"],
}


def save_config(folder, config=CONFIG, name="config.json"):
    folder.mkdir(exist_ok=True)
    write_json(folder / name, validate_config(config).as_given)
    return folder


def resume_with(session, config, **arguments):
    return TinySession(
        config,
        Path(session.run_dir).parent,
        create_run_dir_afresh=False,
        source_run_dir_tag=Path(session.run_dir).name,
        **arguments,
    )


def test_every_key_of_a_session_is_tested_below():
    assert ALLOWED.keys() | REFUSED.keys() == SessionConfig.model_fields.keys()
    assert {f"session.{name}" for name in ALLOWED} == MAY_CHANGE


@pytest.mark.parametrize("name", ALLOWED)
def test_a_key_that_makes_no_other_experiment_may_change(tmp_path, name):
    config = validate_config(config_with(**{name: ALLOWED[name]}))
    saved = json.loads((save_config(tmp_path) / "config.json").read_text())
    assert [one.path for one in config_changes(saved, config)] == [f"session.{name}"]
    check_config(tmp_path, config, allow_changes=False)


@pytest.mark.parametrize("name", REFUSED)
def test_a_key_that_makes_another_experiment_is_refused_unless_changes_are_allowed(tmp_path, name):
    config = validate_config(config_with(**{name: REFUSED[name]}))
    with pytest.raises(ConfigError, match=rf"\n  session\.{name}: .* -> "):
        check_config(save_config(tmp_path), config, allow_changes=False)
    check_config(tmp_path, config, allow_changes=True)


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"network": {**CONFIG["network"], "dropout": 0.4}}, "network.dropout: 0.3 -> 0.4"),
        ({"data": {"size": (3, 4)}}, "data.size: not given -> [3, 4]"),
        ({"metrics": {"Mine": ["accuracy"]}}, "metrics.Mine: not given -> ['accuracy']"),
    ],
)
def test_the_other_sections_may_not_change(tmp_path, section, line):
    with pytest.raises(ConfigError) as caught:
        check_config(save_config(tmp_path), validate_config({**CONFIG, **section}), allow_changes=False)
    assert str(caught.value).splitlines()[1:-1] == [f"  {line}"]


def test_only_refused_differences_are_listed(tmp_path):
    config = config_with(learning_rate=0.1, weight_decay=0.2, num_epochs=9, nan_policy="skip")
    config["network"]["layers"] = 3
    with pytest.raises(ConfigError, match="To fix, pass the saved values") as caught:
        check_config(save_config(tmp_path), validate_config(config), allow_changes=False)
    assert str(caught.value).splitlines()[:-1] == [
        f"The config differs from that of the run {tmp_path}, so this would be another experiment:",
        "  network.layers: not given -> 3",
        "  session.learning_rate: 0.05 -> 0.1",
        "  session.weight_decay: 0.0 -> 0.2",
    ]


@pytest.mark.parametrize("name", [name for name in REFUSED if not SessionConfig.model_fields[name].is_required()])
def test_a_missing_key_counts_as_its_default(tmp_path, name):
    default = SessionConfig.model_fields[name].default
    for saved, other in ((CONFIG, config_with(**{name: default})), (config_with(**{name: default}), CONFIG)):
        config = validate_config(other)
        assert config_changes(validate_config(saved).as_given, config) == []
        check_config(save_config(tmp_path, saved), config, allow_changes=False)


def test_a_missing_section_counts_as_empty(tmp_path):
    full = {**CONFIG, "data": {}, "metrics": {}}
    for saved, other in ((CONFIG, full), (full, CONFIG)):
        check_config(save_config(tmp_path, saved), validate_config(other), allow_changes=False)


def test_a_run_without_a_saved_config_accepts_any(tmp_path):
    check_config(tmp_path, validate_config(CONFIG), allow_changes=False)


def test_the_newest_config_is_that_of_the_last_resume(tmp_path):
    assert newest_config(tmp_path) is None
    save_config(tmp_path)
    assert newest_config(tmp_path) == CONFIG
    save_config(tmp_path, config_with(num_epochs=4), "config_2026-11-02_10-00-00-000000.json")
    save_config(tmp_path, config_with(num_epochs=3), "config_2026-11-01_10-00-00-000000.json")
    assert newest_config(tmp_path)["session"]["num_epochs"] == 4


def test_a_damaged_config_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text('{"session": ')
    with pytest.raises(RunDirectoryError, match=r"config\.json is damaged"):
        newest_config(tmp_path)


@pytest.mark.parametrize("kind", ["config", "environment"])
def test_the_newest_snapshot_is_the_one_written_last_whatever_the_clock_says(tmp_path, monkeypatch, kind):
    assert snapshots(tmp_path, kind) == []
    written = [tmp_path / f"{kind}.json"]
    for day in (5, 9, 2, 7):
        written[-1].touch()
        now = datetime(2026, 11, day)
        monkeypatch.setattr(
            "torchbase.run_directory.config_snapshot.datetime", SimpleNamespace(now=lambda now=now: now)
        )
        written.append(added_snapshot(tmp_path, kind))
    for name in (f"{kind}_old.json", f"{kind}_2.json", f"{kind}.json.bak", f"{kind}s.json", "other.json"):
        (tmp_path / name).touch()  # made by hand
    assert snapshots(tmp_path, kind) == written[:-1]


def test_a_refused_config_leaves_the_run_as_it_was_and_free_for_another_session(tmp_path):
    first = TinySession(CONFIG, tmp_path)
    first()
    before = {path: path.read_bytes() for path in Path(first.run_dir).rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"session\.learning_rate: 0\.05 -> 0\.1"):
        resume_with(first, config_with(learning_rate=0.1))
    assert {path: path.read_bytes() for path in Path(first.run_dir).rglob("*") if path.is_file()} == before
    assert resume_with(first, config_with(num_epochs=3))().epochs_done == 3


def test_allowed_changes_are_recorded_and_become_the_newest_config(tmp_path, caplog):
    first = TinySession(CONFIG, tmp_path)
    first()
    directory, changed = Path(first.run_dir), config_with(weight_decay=0.1, num_epochs=3)
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert resume_with(first, changed, allow_config_changes=True)().epochs_done == 3
    changes = ["session.num_epochs: 2 -> 3", "session.weight_decay: 0.0 -> 0.1"]
    (environment,) = directory.glob("environment_*.json")
    assert json.loads(environment.read_text())["config_changes"] == changes
    assert all(f"The config differs from the run that is resumed: {one}" in caplog.text for one in changes)
    (config,) = directory.glob("config_*.json")
    assert json.loads(config.read_text()) == changed
    assert json.loads((directory / "config.json").read_text()) == CONFIG
    with pytest.raises(ConfigError, match=r"session\.weight_decay: 0\.1 -> 0\.0"):
        resume_with(first, config_with(num_epochs=3))
    resume_with(first, changed)


def test_an_unchanged_config_is_not_saved_again(tmp_path):
    first = TinySession(CONFIG, tmp_path)
    first()
    resume_with(first, CONFIG)()
    assert list(Path(first.run_dir).glob("config_*.json")) == []
    (environment,) = Path(first.run_dir).glob("environment_*.json")
    assert json.loads(environment.read_text())["config_changes"] == []
