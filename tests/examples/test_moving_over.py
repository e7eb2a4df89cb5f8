"""The programs of the page about moving over train the same network as the program with torchbase."""

import copy
import importlib
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

FOLDER = Path(__file__).parents[2] / "examples" / "moving_over"
PEERS = {"with_ignite": "ignite", "with_lightning": "lightning"}


def load(name):
    return importlib.import_module(name)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """An empty working directory, and the programs among the modules."""
    folder = tmp_path_factory.mktemp("moving")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def trained(folder):
    """What torchbase trains without shuffling: the untrained network, the trained one, the averages."""
    program = load("with_torchbase")

    class InOrder(program.DigitsSession):
        def init_order(self):
            return lambda epoch, generator: torch.arange(len(self.dataset_train))

    session = InOrder(program.CONFIG)
    untrained = copy.deepcopy(session.network)
    averages = session().averages["validation-valid"]
    return untrained, session.network, averages


def loaders():
    """The mini-batches of training and of validation, in the order of the digits."""
    data = load("digits_data")
    return [DataLoader(dataset, data.MINI_BATCH_SIZE) for dataset in data.read_digits()]


def check_same(values, network, trained):
    _, expected, averages = trained
    assert averages["accuracy"] > 0.85
    assert {name: float(values[name]) for name in averages} == pytest.approx(averages, rel=1e-4)
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(network.get_parameter(name), parameter, rtol=1e-3, atol=1e-5)


def test_the_loop_by_hand_trains_the_same_network(trained):
    network = copy.deepcopy(trained[0])
    check_same(load("by_hand").train(network, *loaders()), network, trained)


@pytest.mark.peers
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", PEERS)
def test_the_loop_of_another_library_trains_the_same_network(name, trained):
    pytest.importorskip(PEERS[name], reason=f"needs {PEERS[name]}; run by nox -s extras")
    network = copy.deepcopy(trained[0])
    check_same(load(name).train(network, *loaders()), network, trained)


@pytest.mark.peers
@pytest.mark.filterwarnings("default")
def test_the_trainer_of_hugging_face_trains_the_same_network(trained, monkeypatch):
    pytest.importorskip("transformers", reason="needs transformers; run by nox -s extras")
    pytest.importorskip("accelerate", reason="needs accelerate; run by nox -s extras")
    program = load("with_transformers")

    class InOrder(program.Trainer):
        def get_train_dataloader(self):
            return DataLoader(self.train_dataset, self.args.train_batch_size, collate_fn=self.data_collator)

    monkeypatch.setattr(program, "Trainer", InOrder)
    network = copy.deepcopy(trained[0])
    values = program.train(network, *load("digits_data").read_digits())
    # The trainer has loaded the best network.
    assert values["loss"] == pytest.approx(trained[2]["loss"], rel=1e-4)
    assert values["accuracy"] == pytest.approx(trained[2]["accuracy"], rel=1e-4)


@pytest.mark.peers
@pytest.mark.filterwarnings("default")
def test_a_checkpoint_of_lightning_is_loaded_as_the_page_shows(trained, folder):
    pytest.importorskip("lightning", reason="needs lightning; run by nox -s extras")
    load("with_lightning").train(copy.deepcopy(trained[0]), *loaders())
    newest = max(folder.glob("lightning_logs/*/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    saved = torch.load(newest, weights_only=True)["state_dict"]
    network = copy.deepcopy(trained[0])
    network.load_state_dict({name.removeprefix("network."): value for name, value in saved.items()})


def test_the_program_reaches_its_accuracy(programs, tmp_path):
    done = programs.run(FOLDER / "with_torchbase.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"'accuracy': ([\d.]+)", done.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.85
