import json

import pytest
from safetensors import safe_open
from tiny import CONFIG, TinySession

import torchbase.testing.tiny_session as module


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return TinySession(CONFIG, tmp_path_factory.mktemp("runs"))().run_dir


def test_the_weights_are_written_into_the_current_folder(command, run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tag = run_dir.rpartition("/")[2]
    assert command("export", run_dir) == (
        0,
        f"written: {tag}.safetensors, network 'best' of {tag}, of epoch 1\n",
        "",
    )
    with safe_open(tmp_path / f"{tag}.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["torchbase"])["epoch"] == 1
    status, _, error = command("export", run_dir, f"{tag}.safetensors", "--network", "last")
    assert (status, "(--overwrite)" in error) == (2, True)
    status, output, _ = command("export", run_dir, f"{tag}.safetensors", "--network", "last", "--overwrite")
    assert (status, output.endswith("of epoch 2\n")) == (0, True)


def test_a_program_needs_the_class_that_the_run_directory_names_or_the_one_that_is_passed(command, run_dir, tmp_path):
    status, output, _ = command("export", run_dir, tmp_path / "a.pt2", "--session", f"{module.__file__}:TinySession")
    assert (status, output.splitlines()[1:]) == (0, ["input x: float32 (any, 3)"])
    status, _, error = command("export", run_dir, tmp_path / "b.pt2", "--session", f"{module.__file__}:Tiny")
    assert status == 2
    assert f"To fix, run: torchbase export {run_dir} {tmp_path / 'b.pt2'} --session FILE.py:CLASS." in error


@pytest.mark.thorough
def test_a_run_that_names_no_class_says_what_to_type(command, tmp_path):
    class Inner(TinySession):
        pass

    run_dir = Inner(CONFIG, tmp_path)().run_dir
    status, _, error = command("export", run_dir, tmp_path / "c.pt2")
    assert status == 2
    assert f"run: torchbase export {run_dir} {tmp_path / 'c.pt2'} --session FILE.py:CLASS." in error
    status, output, _ = command("export", run_dir, tmp_path / "c.pt2", "--session", f"{module.__file__}:TinySession")
    assert (status, "input x" in output) == (0, True)
