"""Replays of real programs: the bits are reproduced, or what makes them differ is named."""

import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest

from torchbase.command_line.replay_programs import Program, find_program
from torchbase.command_line.replay_reports import Investigation
from torchbase.errors import RunDirectoryError
from torchbase.run_directory.replays import ORDERS_VARIABLE, read_orders

PROGRAM = """
    import os
    import random

    import torch

    from torchbase import hookimpl
    from torchbase.hooks import Fingerprint, JsonLines
    from torchbase.testing import TinySession, tiny_config

    KIND = os.environ.get("KIND", "")


    class Odd:
        @hookimpl
        def on_run_start(self, run):
            if KIND == "start" and run.progress.iterations == 0:
                next(run.network.parameters()).data += random.SystemRandom().random()

        @hookimpl
        def on_epoch_end(self, run):
            if KIND == "epoch":
                run.optimizer.param_groups[0]["lr"] *= random.SystemRandom().random()

        @hookimpl(wrapper=True)
        def run_forward(self, run, phase, batch):
            if KIND == "rows" and phase.is_training and phase.progress.iterations == 6:
                batch["x"][1] += random.SystemRandom().random()
            loss = yield
            if KIND == "loss" and phase.is_training and phase.progress.iterations == 6:
                return loss * 2
            return loss

        @hookimpl
        def on_gradients_ready(self, run):
            if KIND == "gradients" and run.progress.iterations == 6:
                next(run.network.parameters()).grad += random.SystemRandom().random()
            if KIND == "draw" and run.progress.iterations == 6:
                torch.rand(1)

        @hookimpl
        def on_iteration_end(self, run, phase):
            if KIND == "weight" and phase.is_training and phase.progress.iterations == 7:
                with torch.no_grad():
                    run.network.layers[3].bias.add_(1e-6)


    class Backend:
        @hookimpl
        def log_scalars(self):
            open("records.txt", "a").write("a record that was sent to a server\\n")


    class Other(TinySession):
        pass


    if __name__ == "__main__":
        if KIND == "error":
            raise SystemExit("no data here")
        if KIND == "":
            Other(tiny_config(num_epochs=1), "runs")()
        config = tiny_config(num_epochs=2)
        match os.environ.get("HOW"):
            case "by its name":
                session = TinySession.begin_or_resume(config, "runs", tag="run_mine")
            case "from another run":
                (other,) = {*os.listdir("runs")} - {name for name in os.listdir("runs") if name.endswith("mine")}
                session = TinySession(config, "runs", source_run_dir_tag=other, tag_postfix="mine")
            case _:
                session = TinySession(config, "runs", tag_postfix="mine")
        session.register(Odd())
        session.register(Backend())
        session.register(Fingerprint(os.environ.get("EVERY", "2it")))
        session()
        open("after.txt", "a").write("after the training\\n")
"""


def content_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def project(programs, tmp_path_factory):
    """A folder with a program, and its run."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "train.py").write_text(textwrap.dedent(PROGRAM))
    done = programs.run("train.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def describe(count):
    return f"{count} fingerprint{'s' if count > 1 else ''}"


def run_of(project):
    (found,) = project.glob("runs/*_mine")
    return found


@pytest.fixture
def replay(programs, project, tmp_path, monkeypatch):
    """Replays the run with a changed program. Checks that nothing of the project is changed."""
    monkeypatch.chdir(tmp_path)

    def start(kind, command, folder, environment):
        return programs.run(*command[1:], cwd=folder, env={**environment, "KIND": kind})

    def replay_run(kind="", last=None, from_start=True, traced=None):
        before = content_of(project)
        investigation = Investigation(run_of(project), last, from_start, traced)
        found = investigation.report(Program(["python", "train.py"], project), partial(start, kind))
        assert content_of(project) == before
        return found

    return replay_run


@pytest.mark.parametrize(
    ("last", "from_start", "count", "end"),
    [
        (None, False, 4, "iteration 10, the end"),
        pytest.param(None, True, 6, "iteration 10, the end", marks=pytest.mark.thorough),
        pytest.param(8, True, 4, "iteration 8", marks=pytest.mark.thorough),
    ],
)
def test_a_program_that_trains_the_same_reproduces_its_run(replay, last, from_start, count, end):
    assert replay("", last, from_start) == (
        [f"reproduced: the recorded {count} fingerprints, until {end}, have the same bits here"],
        True,
    )


@pytest.mark.thorough
def test_another_program_is_told_from_the_recorded_one_by_traces(replay, project, command, tmp_path):
    lines, is_same = replay("weight")
    assert not is_same
    text = "\n".join(lines)
    assert text.startswith("not reproduced: the same until iteration 6, different at iteration 8: network.")
    assert "two replays here have the same bits, so the program repeats itself here" in text
    name = f"trace_{run_of(project).name}_7-8.jsonl"
    assert f"written: {tmp_path / name}" in text
    lines, _ = replay("", traced=(7, 8))
    changed, second = tmp_path / name, tmp_path / name.replace(".jsonl", "_2.jsonl")
    assert lines[0].startswith(f"written: {second}, with what each hook changes in the iterations 7 to 8")
    assert command("compare", changed, second) == (
        0,
        f"{changed} and {second}: in iteration 7, on_iteration_end of the hook 'odd' makes a difference: "
        "network.layers.3.bias\n",
        "",
    )
    _, out, _ = command("compare", changed, changed)
    assert "the same until iteration 8" in out


IN_7 = "the first difference between two replays: in iteration 7, "


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("gradients", f"{IN_7}on_gradients_ready of the hook 'odd' makes a difference: gradients.layers.0.weight"),
        pytest.param("rows", f"{IN_7}the forward pass (run_forward) makes a diff", marks=pytest.mark.thorough),
        pytest.param("start", "they differ before the first iteration: in init_network,", marks=pytest.mark.thorough),
        pytest.param("epoch", "they agree after iteration 5 itself: a validation or a", marks=pytest.mark.thorough),
    ],
)
def test_a_program_that_does_not_repeat_itself_is_told_where(replay, kind, cause):
    lines, is_same = replay(kind)
    assert not is_same
    assert "two replays here differ from each other, so the program doesn't repeat itself:" in lines
    assert lines[-1].startswith(cause)


def test_a_program_that_does_not_train_the_run_is_an_error(replay):
    with pytest.raises(RunDirectoryError, match=r"created and called no session with the class(?s:.*)no data here"):
        replay("error")


def test_a_run_without_fingerprints_is_refused(project):
    (other,) = {*project.glob("runs/*")} - {run_of(project)}
    with pytest.raises(RunDirectoryError, match=r"has no fingerprints of iterations, so there is nothing to compare"):
        Investigation(other, None, False)
    with pytest.raises(RunDirectoryError, match="has no fingerprints of iterations until iteration 1,"):
        Investigation(run_of(project), 1, False)


def test_a_run_names_its_program(project, tmp_path):
    found = find_program(run_of(project))
    assert found.folder == project
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match=r"doesn't name the program that trained it. To fix, pass it:"):
        find_program(tmp_path)
    (tmp_path / "environment.json").write_text('{"program": {"command": ["python"], "folder": "/nowhere"}}')
    with pytest.raises(RunDirectoryError, match=r"The folder /nowhere, in which the run .* was started, isn't there"):
        find_program(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"until": [1, "lunch"]}'])
def test_orders_that_can_not_be_read_are_an_error(tmp_path, monkeypatch, text):
    monkeypatch.delenv(ORDERS_VARIABLE, raising=False)
    assert read_orders() is None
    (tmp_path / "orders.json").write_text(text)
    monkeypatch.setenv(ORDERS_VARIABLE, str(tmp_path / "orders.json"))
    with pytest.raises(RunDirectoryError, match="has no orders of a replay"):
        read_orders()
    monkeypatch.setenv(ORDERS_VARIABLE, str(tmp_path / "missing.json"))
    with pytest.raises(RunDirectoryError, match="can't read"):
        read_orders()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("environment", "count", "end"),
    [
        ({"EVERY": "1ep"}, 3, "iteration 10, the end"),
        ({"EVERY": "100it"}, 1, "iteration 10, the end"),
        ({"HOW": "by its name"}, 6, "iteration 10, the end"),
        ({"HOW": "from another run"}, 6, "iteration 10, the end"),
    ],
)
def test_runs_of_each_kind_are_reproduced(programs, tmp_path, environment, count, end):
    (tmp_path / "train.py").write_text(textwrap.dedent(PROGRAM))

    def start(command, folder, inherited):
        return programs.run(*command[1:], cwd=folder, env={**inherited, **environment})

    done = start(["python", "train.py"], tmp_path, os.environ)
    assert done.returncode == 0, done.stderr
    before = content_of(tmp_path)
    found = Investigation(run_of(tmp_path), None, True).report(Program(["python", "train.py"], tmp_path), start)
    assert found == ([f"reproduced: the recorded {describe(count)}, until {end}, have the same bits here"], True)
    assert content_of(tmp_path) == before


@pytest.mark.thorough  # a new interpreter imports for seconds
def test_the_command_starts_the_recorded_program(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(textwrap.dedent(PROGRAM))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    subprocess.run([sys.executable, "train.py"], check=True, cwd=tmp_path)
    status, out, err = command("replay", run_of(tmp_path), "--from-start")
    assert (status, err) == (0, "")
    assert f"replaying it from its start until iteration 10: {sys.executable} train.py\n" in out
    assert "reproduced: the recorded 6 fingerprints" in out
    status, out, _ = command("replay", run_of(tmp_path), "--to", "4", "--program", f"{sys.executable} train.py")
    assert status == 0
    assert "reproduced: the recorded 2 fingerprints, until iteration 4, have the same bits here" in out
