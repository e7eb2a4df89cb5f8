"""The command as users call it: as a program, for the runs of a script and of a module in a package."""

import textwrap
from functools import partial
from importlib.metadata import entry_points

import pytest

from torchbase.checkpoints.listing import list_checkpoints

SCRIPT = """
    import torch
    from datasets import Dataset

    from torchbase import TrainingBaseSession, ValidationDatasetsDict

    CONFIG = {
        "session": {"device_name": "cpu", "num_epochs": 2, "mini_batch_size": 4, "learning_rate": 0.1, "seed": 1},
        "network": {"architecture": "Linear"},
    }


    class LineSession(TrainingBaseSession):
        def init_datasets(self):
            points = Dataset.from_dict({"x": [[number / 20] for number in range(20)]})
            return points, ValidationDatasetsDict(datasets=(points,), only_for_demo=(False,), names=("points",))

        def init_network(self):
            return torch.nn.Linear(1, 1)

        def forward_pass(self, mini_batch):
            return {"output": self.network(mini_batch["x"]), "target": mini_batch["x"]}

        def loss_function(self, *, output, target):
            return (output - target).square().mean()

        def init_metrics(self):
            return None


    def train():
        class Inner(LineSession):
            pass

        LineSession(CONFIG, "runs")()
        Inner(CONFIG, "inner")()


    if __name__ == "__main__":
        train()
"""


@pytest.fixture(scope="module")
def run(programs):
    # Without warnings: those of other packages depend on their versions.
    return partial(programs.run, "-W", "ignore")


@pytest.fixture(scope="module")
def torchbase(run):
    return partial(run, "-c", "import sys; from torchbase.command_line import main; sys.exit(main())")


@pytest.fixture(scope="module")
def project(run, tmp_path_factory):
    """A folder in which a script and a module of a package have run."""
    folder = tmp_path_factory.mktemp("project")
    package = folder / "package" / "inner"
    package.mkdir(parents=True)
    for parent in (package, package.parent):
        (parent / "__init__.py").touch()
    (folder / "train-line.py").write_text(textwrap.dedent(SCRIPT))
    (package / "line.py").write_text(textwrap.dedent(SCRIPT).replace('"runs"', '"package_runs"'))
    relative = "from ..config import CONFIG\nfrom . import Base\n\nclass Session(Base):\n    pass\n\n\ndef train():\n"
    relative += '    Session(CONFIG, "PARENT")()\n\n\nif __name__ == "__main__":\n    train()\n'
    (package / "__init__.py").write_text("from .line import LineSession as Base\n\n\nclass InInit(Base):\n    pass\n")
    (package.parent / "config.py").write_text("from .inner.line import CONFIG\n")
    (package / "relative.py").write_text(relative.replace("PARENT", "module_runs"))
    (package / "__main__.py").write_text(relative.replace("PARENT", "main_runs"))
    in_init = 'from package.inner import InInit, line; line.train(); InInit(line.CONFIG, "init_runs")()'
    for words in (
        ["train-line.py"],
        ["-m", "package.inner.relative"],
        ["-m", "package.inner"],
        ["-c", in_init],
    ):
        done = run(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def only_run(project, parent):
    return next((project / parent).iterdir())


@pytest.mark.parametrize("parent", ["runs", "package_runs", "module_runs", "main_runs", "init_runs"])
def test_a_run_is_verified_and_replayed_from_another_folder(torchbase, project, parent, tmp_path):
    done = torchbase("verify", str(only_run(project, parent)), "--replay", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == str(only_run(project, parent))
    assert lines[1].endswith("iteration-0000000010: whole")
    assert lines[-1].endswith("twice: they agree bit for bit")
    assert list(tmp_path.iterdir()) == []


def test_a_class_inside_a_function_has_to_be_passed(torchbase, project):
    run_dir = str(only_run(project, "inner"))
    done = torchbase("verify", run_dir, "--replay", "1", cwd=project)
    assert done.returncode == 2
    assert "train.<locals>.Inner is inside a function or a notebook" in done.stderr
    done = torchbase("verify", run_dir, "--replay", "1", "--session", "train-line.py:LineSession", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    for wrong, message in (
        ("package/inner/relative.py:Nothing", "There is no session class 'Nothing' in"),
        ("train-line.py:Nothing", "There is no session class 'Nothing' in"),
        ("train-line.py:CONFIG", "There is no session class 'CONFIG'"),
        ("nowhere.py:LineSession", "nowhere.py, isn't there"),
    ):
        done = torchbase("verify", run_dir, "--replay", "1", "--session", wrong, cwd=project)
        assert done.returncode == 2
        assert message in done.stderr


def test_a_damaged_checkpoint_returns_status_1(torchbase, project):
    run_dir = only_run(project, "inner")
    (list_checkpoints(run_dir / "states")[1] / "training.pth").write_bytes(b"")
    done = torchbase("verify", str(run_dir), cwd=project)
    assert done.returncode == 1
    assert "training.pth was changed after it was written" in done.stdout


@pytest.mark.parametrize("words", [["verify", "."], ["verify", ".", "--replay", "0"], ["verify"], [], ["train"]])
def test_invalid_arguments_return_status_2_and_a_reason(torchbase, words, tmp_path):
    done = torchbase(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "torchbase" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_is_installed():
    (command,) = entry_points(group="console_scripts", name="torchbase")
    assert command.value == "torchbase.command_line:main"
