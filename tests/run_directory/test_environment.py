import json
import os
import platform
import signal
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from torchbase.run_directory.environment import describe_environment, describing_code, version_of


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    return tmp_path


def test_the_description_can_be_written_as_json_and_read_back():
    description = describe_environment()
    assert json.loads(json.dumps(description, allow_nan=False)) == description


def test_the_description_has_software_machine_and_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--wide"])
    description = describe_environment()
    assert description["python"] == platform.python_version()
    assert description["hostname"] == platform.node()
    assert description["command_line"] == ["train.py", "--wide"]
    assert description["packages"]["torch"] == version("torch")
    assert all(description["packages"][name] for name in ("torchbase", "datasets", "scikit-learn", "tensorboard"))
    assert description["devices"]["cpu_count"] == os.cpu_count()
    assert description["devices"]["thread_count"] == torch.get_num_threads()
    assert len(description["devices"]["accelerators"]) == torch.accelerator.device_count()


def test_the_build_of_torch_is_told():
    build = {"version": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    assert describe_environment()["torch"] == build


def test_a_cudnn_that_torch_can_not_use_has_no_version(monkeypatch):
    def refuse():
        raise RuntimeError("cuDNN version incompatibility")

    monkeypatch.setattr(torch.backends.cudnn, "version", refuse)
    assert describe_environment()["torch"]["cudnn"] is None


def test_the_time_has_a_zone():
    before = datetime.now(UTC)
    assert before <= datetime.fromisoformat(describe_environment()["time"]) <= datetime.now(UTC)


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    def version_without_tensorboard(name: str) -> str:
        if name == "tensorboard":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("torchbase.run_directory.environment.version", version_without_tensorboard)
    monkeypatch.setattr("torchbase.run_directory.environment.version_of", version_of.__wrapped__)
    packages = describe_environment()["packages"]
    assert packages["tensorboard"] is None
    assert packages["numpy"] == version("numpy")


def test_no_package_is_imported_to_find_its_version(monkeypatch):
    monkeypatch.setattr("torchbase.run_directory.environment.version_of", version_of.__wrapped__)
    packages = {"datasets", "sklearn", "tensorboard", "matplotlib"}
    for name in packages:
        monkeypatch.delitem(sys.modules, name, raising=False)
    describe_environment()
    assert not packages & set(sys.modules)


def describe_code(folder):
    with describing_code(folder) as describe:
        return describe()


def test_the_commit_is_clean_until_a_tracked_file_changes(repository):
    (repository / "code.py").write_text("1")
    git("add", "code.py")
    git("commit", "--quiet", "--message", "first")
    commit = git("rev-parse", "HEAD")
    assert describe_code(Path()) == {"commit": commit, "dirty": False}
    (repository / "runs").mkdir()
    (repository / "runs" / "config.json").touch()
    assert describe_code(Path()) == {"commit": commit, "dirty": False}
    (repository / "code.py").write_text("2")
    assert describe_code(Path()) == {"commit": commit, "dirty": True}
    git("add", "code.py")
    assert describe_code(Path()) == {"commit": commit, "dirty": True}


def test_a_repository_before_its_first_commit_has_none(repository):
    assert describe_code(Path()) is None


def test_the_commit_belongs_to_the_repository_of_the_folder(repository, monkeypatch):
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    (repository / "sub").mkdir()
    commit = git("rev-parse", "HEAD")
    monkeypatch.chdir("/")
    assert describe_code(repository / "sub") == {"commit": commit, "dirty": False}


def test_outside_of_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_code(Path()) is None


def test_without_git_there_is_no_commit(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert describe_code(Path()) is None


@pytest.fixture
def hanging_git(repository, monkeypatch):
    """A git that hangs; the processes of it that were started."""
    (repository / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (repository / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(repository), prepend=os.pathsep)
    started, popen = [], subprocess.Popen

    def noted(*arguments, **named):
        started.append(popen(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    return started


def test_a_hanging_git_is_not_waited_for(hanging_git, monkeypatch):
    monkeypatch.setattr("torchbase.run_directory.environment._GIT_SECONDS", 0.2)
    assert describe_code(Path()) is None
    assert [one.returncode for one in hanging_git] == [-signal.SIGKILL]


def test_an_error_does_not_wait_for_a_hanging_git(hanging_git):
    with pytest.raises(ZeroDivisionError), describing_code(Path()):
        _ = 1 / 0
    assert [one.returncode for one in hanging_git] == [-signal.SIGKILL]


def test_git_runs_while_the_body_does_something_else(repository):
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    with describing_code(Path()) as describe:
        commit = git("rev-parse", "HEAD")
        assert describe() == {"commit": commit, "dirty": False}
