import json
from pathlib import Path

import pytest
from tiny import CONFIG, TinySession

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import write_json


def test_config_and_environment_are_saved_when_a_session_is_created(tmp_path):
    config = {**CONFIG, "data": {"size": (3, 4)}}
    session = TinySession(config, tmp_path)
    directory = Path(session.run_dir)
    assert json.loads((directory / "config.json").read_text()) == {**CONFIG, "data": {"size": [3, 4]}}
    assert json.loads((directory / "environment.json").read_text())["packages"]["torchbase"]


def test_a_write_error_raises_and_leaves_no_directory(tmp_path, monkeypatch):
    def refuse(file, value):
        if file.name == "environment.json":
            raise RunDirectoryError("the disk is full")
        write_json(file, value)

    monkeypatch.setattr("torchbase.hooks.config_snapshot.write_json", refuse)
    with pytest.raises(RunDirectoryError, match="the disk is full"):
        TinySession(CONFIG, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_config_reproduces_the_run(tmp_path):
    first = TinySession({**CONFIG, "data": {"size": (3, 4)}}, tmp_path)
    first_summary = first()
    config = json.loads((Path(first.run_dir) / "config.json").read_text())
    assert TinySession(config, tmp_path)().averages == first_summary.averages


def test_a_resumed_run_saves_its_config_in_an_additional_file(tmp_path):
    first = TinySession(CONFIG, tmp_path)
    first()
    directory = Path(first.run_dir)
    saved = (directory / "config.json").read_bytes()
    changed = {**CONFIG, "session": {**CONFIG["session"], "num_epochs": 3}}
    TinySession(changed, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=directory.name)()
    assert (directory / "config.json").read_bytes() == saved
    (added,) = directory.glob("config_*.json")
    assert json.loads(added.read_text())["session"]["num_epochs"] == 3
    assert len(list(directory.glob("environment_*.json"))) == 1
