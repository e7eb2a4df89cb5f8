import json
import textwrap

import pytest
from made_up import make_run
from tiny import CONFIG, TinySession

from torchbase import hookimpl
from torchbase.engine.hook_checks import EVENT_NAMES

SESSION = """
    import torch

    from torchbase import TrainingBaseSession, hookimpl


    class Around:
        @hookimpl(wrapper=True)
        def run_phase(self):
            return (yield)


    class Session(TrainingBaseSession):
        def default_hooks(self):
            return [*super().default_hooks(), Around()]

        def init_datasets(self): ...
        def init_network(self): ...
        def forward_pass(self, mini_batch): ...
        def loss_function(self): ...
        def init_metrics(self): ...


    class WithData(Session):
        def default_hooks(self):
            return super().default_hooks() if self.config_data["needed"] else []


    class Two(Session):
        def __init__(self, config, runs_parent_dir, other):
            super().__init__(config, runs_parent_dir)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "training.py"
    path.write_text(textwrap.dedent(SESSION))
    return path


def calls_of(text):
    """The hooks by event, from the second table."""
    lines = text.split("\n\n")[1].splitlines()[1:]
    return {line.split()[0]: line.split(maxsplit=1)[1].split(", ") for line in lines}


def test_the_catalogue_has_each_event_in_the_order_of_the_loop(command):
    status, out, err = command("hooks")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(EVENT_NAMES)]] == list(EVENT_NAMES)
    assert "on_iteration_end       run, phase" in out
    assert "Called after each iteration, while its outputs and loss are still available." in out
    assert "is_…, should_…: the first return value that is not None wins" in out


def test_the_catalogue_fits_the_terminal(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, command("hooks")[1].splitlines())) <= 80


def test_the_hooks_of_a_run_are_listed_in_the_order_in_which_they_are_called(command, tmp_path):
    class Around:
        @hookimpl(wrapper=True)
        def run_phase(self):
            return (yield)

    called = []

    class Note:
        def __init__(self, name):
            self.name = name

        @hookimpl
        def on_epoch_end(self):
            called.append(self.name)

    session = TinySession(CONFIG, tmp_path)
    for hook in (Around(), Note("first"), Note("second")):
        session.register(hook)
    session()
    status, out, _ = command("hooks", session.run_dir)
    assert status == 0
    calls = calls_of(out)
    assert calls["run_phase"] == ["around (wrapper)", "engine"]
    assert [name for name in calls["on_epoch_end"] if name in called] == called[:2]
    assert calls["on_epoch_end"][-1] == "checkpoint"
    assert list(calls) == [name for name in EVENT_NAMES if name in calls]
    assert "(wrapper): wraps the hooks after it" in out
    assert "run_record       torchbase.hooks.run_record.RunRecord" in out


def test_the_hooks_of_a_session_are_listed_without_a_run(command, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = command("hooks", "--session", "training.py:Session")
    assert (status, err) == (0, "")
    assert calls_of(out)["run_phase"] == ["around (wrapper)", "engine"]
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["training.py"]


def test_a_session_gets_the_config_of_the_run(command, file, tmp_path):
    status, _, err = command("hooks", "--session", f"{file}:WithData")
    assert status == 2
    assert "A session of the class WithData can't be created from a config alone: KeyError: 'needed'." in err
    assert "pass a run directory, too" in err
    run = make_run(tmp_path, "run")
    config = json.loads((run / "config.json").read_text())
    config["session"]["device_name"] = "cuda:7"  # a device of another machine
    (run / "config.json").write_text(json.dumps({**config, "data": {"needed": True}}))
    assert command("hooks", run, "--session", f"{file}:WithData")[0] == 0
    (run / "config.json").write_text(json.dumps({"session": 3}))
    status, _, err = command("hooks", run, "--session", f"{file}:WithData")
    assert status == 2
    assert "The config has" in err


@pytest.mark.parametrize(
    ("session", "message"),
    [
        ("training.py:Two", "A session of the class Two can't be created from a config alone: TypeError"),
        ("training.py:Nothing", "There is no session class 'Nothing'"),
        ("nowhere.py:Session", "nowhere.py, isn't there"),
    ],
)
def test_a_session_that_can_not_be_created_is_an_error(command, file, tmp_path, monkeypatch, session, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = command("hooks", "--session", session)
    assert (status, out) == (2, "")
    assert message in err


def test_a_run_without_recorded_hooks_is_an_error(command, tmp_path):
    folder = make_run(tmp_path, "run")
    status, _, err = command("hooks", folder)
    assert status == 2
    assert "aren't recorded: there is no hooks.json" in err
    assert "To fix, pass --session FILE:CLASS." in err
    (folder / "hooks.json").write_text("[]")
    status, _, err = command("hooks", folder)
    assert status == 2
    assert "hooks.json isn't what torchbase writes there" in err


def test_events_of_another_version_are_listed_last(command, tmp_path):
    folder = make_run(tmp_path, "run")
    events = {"on_other": [{"hook": "a", "is_wrapper": False}], "on_run_end": [{"hook": "b", "is_wrapper": False}]}
    (folder / "hooks.json").write_text(json.dumps({"hooks": {"a": "A", "b": "B"}, "events": events}))
    assert list(calls_of(command("hooks", folder)[1])) == ["on_run_end", "on_other"]
