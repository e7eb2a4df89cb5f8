"""Each recipe learns, ends with the same bits after SIGKILL, and on two processes with those of one."""

import importlib
import importlib.util
import inspect
import os
import re
import sys
from pathlib import Path

import pytest
import several
from divided import in_suite

from torchbase import TrainingBaseSession
from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.files.bitwise import different_values
from torchbase.testing.instruments import KillAt
from torchbase.testing.outcomes import collect_on_disk

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
FILES = {path.stem: path for path in (*FOLDER.glob("*.py"), FOLDER.parent / "gan.py")}
# What a recipe prints last, and the lowest and the highest value that shows that it has learned.
LEARNS = {
    "cross_validation": ("accuracy:", 0.93, 1.0),
    "detection": ("average precision:", 0.4, 1.0),
    "distillation": ("accuracy of the student:", 0.8, 1.0),
    "export": ("accuracy of the exported network:", 0.85, 1.0),
    "fine_tuning": ("accuracy:", 0.75, 1.0),
    "gan": ("distance from the digits after:", 0.05, 0.3),
    "graphs": ("accuracy:", 0.8, 1.0),
    "graphs_pyg": ("accuracy:", 0.8, 1.0),
    "language_model": ("loss per character:", 1.5, 3.4),
    "lbfgs": ("error of the continued waves:", 0.0, 0.1),
    "metric_learning": ("recall:", 0.95, 1.0),
    "multi_task": ("digit_accuracy:", 0.8, 1.0),
    "reinforcement": ("steps upright:", 60.0, 80.0),
    "self_supervised": ("accuracy of the nearest neighbour:", 0.5, 1.0),
    "sharpness_aware": ("accuracy:", 0.9, 1.0),
    "time_series": ("error of the forecast:", 0.05, 0.25),
    "transformer": ("accuracy:", 0.9, 1.0),
    "translation": ("wrong dates:", 0.0, 20.0),
    "vae": ("loss per image:", 15.0, 27.0),
    "wgan_gp": ("distance from the digits:", 0.05, 0.4),
}
NEEDS = {"graphs_pyg": "torch_geometric", "transformer": "transformers", "translation": "torchmetrics"}
# Their runs have names, so the same command goes on; the others are resumed.
RUN_AGAIN = {"cross_validation", "distillation"}
EPOCHS = {"lbfgs": 6}  # of one iteration
SETTINGS = {"mini_batch_parts": 2, "checkpoint_every_n_iterations": 3}


# Imported once, and not in each process.
IMPORTED_LATE = (
    "sklearn.datasets",
    "tensorboard.backend.event_processing.event_accumulator",
    "tensorboard.summary.writer.record_writer",
    "torch._dynamo",
    "torch.utils.tensorboard.summary",
    "torchbase.checkpoints.manifest",
    "torchbase.run_directory.config",
)


def skip_without_its_packages(name):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs {NEEDS[name]}; run by nox -s extras")


def load(name):
    spec = importlib.util.spec_from_file_location(name, FILES[name])
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def last_session_of(module):
    """The class of the last run of a recipe."""
    return [
        one
        for one in vars(module).values()
        if inspect.isclass(one) and issubclass(one, TrainingBaseSession) and one.__module__ == module.__name__
    ][-1]


def train(index, name, folder, killed_at=None, is_resumed=False):
    """Runs a recipe with shorter runs, in a process of its own."""
    os.chdir(folder)
    module = load(name)
    session = module.CONFIG["session"]
    session.update(SETTINGS)
    counts_iterations = "num_iterations" in session
    epochs = {"num_epochs": EPOCHS.get(name, 2)}
    session.update({"num_iterations": 8, "iterations_per_epoch": 4} if counts_iterations else epochs)
    kind = last_session_of(module)
    if killed_at is not None:
        hooks_of = kind.default_hooks
        kind.default_hooks = lambda self: [*hooks_of(self), KillAt(killed_at)]
    if is_resumed and name not in RUN_AGAIN:
        kind.resume("runs")()
    else:
        module.main()


def results_in(folder):
    """What the runs in a folder have saved and logged, in the order of their names."""
    results = []
    for run in sorted((folder / "runs").iterdir()):
        parts = newest_whole_checkpoint(run / "states").parts
        saved = {"network": parts["network"], "optimizer": parts["training"]["optimizer"]}
        logged = {name: values for name, values in collect_on_disk(run).items() if name != "files"}
        results.append({**saved, **logged})
    return results


def differences(results, others):
    assert len(results) == len(others)
    return [name for one, other in zip(results, others, strict=True) for name in different_values(one, other)]


# test_examples.py runs the GAN.
@pytest.mark.parametrize("name", in_suite(list(LEARNS), *(name for name in LEARNS if name not in {*NEEDS, "gan"})))
def test_a_recipe_learns(name, programs, tmp_path):
    skip_without_its_packages(name)
    done = programs.run(FILES[name], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # What other packages say of themselves depends on their version, and on Python's.
    assert not re.search(r"(torchbase|examples)\S*\.py:\d+: \w*Warning", done.stderr), done.stderr
    text, lowest, highest = LEARNS[name]
    found = re.search(rf"^{re.escape(text)} (\d+\.\d+)", done.stdout, re.MULTILINE)
    assert found, done.stdout
    assert lowest <= float(found[1]) <= highest, done.stdout


@pytest.fixture(scope="module")
def _imports():
    for name in IMPORTED_LATE:
        importlib.import_module(name)


@pytest.mark.usefixtures("_imports")
@pytest.mark.parametrize("name", in_suite(list(LEARNS), "detection"))
def test_a_recipe_ends_the_same_after_sigkill(name, tmp_path):
    skip_without_its_packages(name)
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    several.values_of(1, train, name, tmp_path / "whole")
    (first,) = several.run(1, train, name, tmp_path / "killed", 5)
    assert first.exit_code == -9, first.error
    several.values_of(1, train, name, tmp_path / "killed", None, True)
    assert differences(results_in(tmp_path / "whole"), results_in(tmp_path / "killed")) == []


@pytest.mark.usefixtures("_imports")
@pytest.mark.parametrize("name", in_suite(list(LEARNS), "self_supervised"))
def test_a_recipe_has_the_same_bits_on_two_processes(name, tmp_path):
    skip_without_its_packages(name)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    several.values_of(1, train, name, tmp_path / "one")
    several.values_of(2, train, name, tmp_path / "two")
    assert differences(results_in(tmp_path / "one"), results_in(tmp_path / "two")) == []


def test_each_recipe_is_tested():
    assert sorted(FILES) == sorted(LEARNS)
