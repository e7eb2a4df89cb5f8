import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import several
import torch
from exported import TwoInputs, TwoInputsSession, load_program, mini_batch_of, train, without_torchbase
from safetensors import safe_open
from safetensors.torch import load_file

from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.storage import newest_whole_checkpoint, read_checkpoint
from torchbase.errors import ProcessError, RunDirectoryError
from torchbase.export import exporting
from torchbase.export.description import describe
from torchbase.files import durable
from torchbase.files.bitwise import different_values
from torchbase.files.tensors import read_tensors
from torchbase.files.walking import files_in
from torchbase.hooks import ActivationCheckpointing, Compile, KeepBest
from torchbase.testing.forked import reason_against_forking
from torchbase.utils import export_network, read_best_networks

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch, about itself


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    session = train(tmp_path_factory.mktemp("runs"), ActivationCheckpointing("body"), KeepBest(2))
    session.load_best_network()
    session.network.eval()
    return session


def outputs_of(network, samples, length=6):
    tokens, numbers = mini_batch_of(samples, length)
    with torch.no_grad():
        return network(tokens, numbers=numbers)


def check_description(description, session):
    assert description["config"] == json.loads(json.dumps(session._config.as_given))
    epochs = [json.loads(line) for line in Path(session.run_dir, "epochs.jsonl").read_text().splitlines()]
    best = description["epoch"]
    assert description["best_losses"]["validation-valid"]["epoch"] == best
    assert description["averages"] == {one["phase"]: one["averages"] for one in epochs if one["epoch"] == best}
    assert description["trained_with"]["torch"] == description["exported_with"]["torch"] == version("torch")
    assert (description["session"], description["network"]) == ("TwoInputsSession", "best")


def test_weights_load_strictly_into_a_plain_network(session, tmp_path):
    exported = export_network(session.run_dir, tmp_path / "weights.safetensors")
    with without_torchbase():
        network = TwoInputs().eval()
        network.load_state_dict(load_file(exported.path))
        with safe_open(exported.path, framework="pt") as file:
            description = json.loads(file.metadata()["torchbase"])
    assert different_values(outputs_of(network, 5), outputs_of(session.network, 5)) == []
    assert description == exported.description
    check_description(description, session)


def test_a_program_computes_the_same_bits_for_mini_batches_of_any_size(session, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in files_in(session.run_dir)}
    exported = export_network(session.run_dir, tmp_path / "program.pt2", session_class=type(session))
    assert {path: path.stat().st_mtime_ns for path in files_in(session.run_dir)} == before
    program, description = load_program(exported.path)
    for samples, length in ((1, 6), (2, 3), (7, 5), (64, 9)):
        found, expected = outputs_of(program, samples, length), outputs_of(session.network, samples, length)
        assert found.keys() == expected.keys()
        assert different_values(found, expected) == []
    assert description["inputs"] == {"tokens": "int64 (any, any)", "numbers": "float32 (any, 3)"}
    check_description(description, session)


def test_the_last_network_is_that_of_the_newest_checkpoint(session, tmp_path):
    exported = export_network(session.run_dir, tmp_path / "last.safetensors", "last")
    checkpoint = newest_whole_checkpoint(session._run_directory.states)
    assert different_values(load_file(exported.path), dict(checkpoint.parts["network"])) == []
    assert (exported.description["epoch"], exported.description["iterations"]) == (2, 8)


def test_a_damaged_checkpoint_is_passed_over_and_the_file_names_the_one_before(session, tmp_path):
    copied = Path(shutil.copytree(session.run_dir, tmp_path / "copied"))
    newest, older = list_checkpoints(copied / "states")
    (newest / "network.pth").write_bytes(b"")
    exported = export_network(copied, tmp_path / "last.safetensors", "last")
    assert (exported.description["epoch"], exported.description["iterations"]) == (1, 4)
    assert different_values(load_file(exported.path), dict(read_checkpoint(older).parts["network"])) == []


def test_a_network_that_keep_best_has_saved_is_chosen_by_its_file(session, tmp_path):
    for one in read_best_networks(Path(session.run_dir)).networks:
        exported = export_network(session.run_dir, tmp_path / f"{one.epoch}.safetensors", one.file)
        assert exported.description["epoch"] == one.epoch
        assert exported.description["averages"]["validation-valid"]["loss"] == one.value
    with pytest.raises(
        RunDirectoryError, match=r"no network 'beste'\. Did you mean 'best'\? Available: best, last, best_n"
    ):
        export_network(session.run_dir, tmp_path / "weights.safetensors", "beste")


def test_a_network_that_is_replaced_while_it_is_read_is_read_again(session, tmp_path, monkeypatch):
    copied = Path(shutil.copytree(session.run_dir, tmp_path / "copied"))
    other = read_best_networks(copied).networks[1]
    described = []

    def replace_then_describe(*arguments):
        if not described:
            shutil.copy2(copied / other.file, copied / "network.pth")
        described.append(describe(*arguments))
        return described[-1]

    monkeypatch.setattr(exporting, "describe", replace_then_describe)
    exported = export_network(copied, tmp_path / "weights.safetensors")
    assert len(described) == 2
    assert different_values(load_file(exported.path), read_tensors(copied / other.file)) == []


def test_an_existing_file_is_not_overwritten_unless_asked(session, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_text("precious")
    with pytest.raises(RunDirectoryError, match="exists already, and isn't overwritten"):
        export_network(session.run_dir, path)
    assert path.read_text() == "precious"
    export_network(session.run_dir, path, overwrite=True)
    assert load_file(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(session, tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "weights.safetensors"
    path.write_text("old")
    monkeypatch.setattr(durable.os, "fsync", fail)
    with pytest.raises(RunDirectoryError, match=r"can't write .*No space left"):
        export_network(session.run_dir, path, overwrite=True)
    assert os.listdir(tmp_path) == ["weights.safetensors"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("weights.safetensor", r"Did you mean '\.safetensors'\? To fix, let its name end with"),
        ("weights", "doesn't say in which format"),
        ("nowhere/weights.pt2", "the folder above it is missing"),
    ],
)
def test_a_path_without_a_format_or_folder_is_an_error(session, tmp_path, path, message):
    with pytest.raises(RunDirectoryError, match=message):
        export_network(session.run_dir, tmp_path / path)


def test_what_has_no_network_is_an_error(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"isn't the directory of a run: it has no config\.json"):
        export_network(tmp_path, tmp_path / "weights.safetensors")
    (tmp_path / "config.json").write_text("{}")
    for network in ("best", "last"):
        with pytest.raises(RunDirectoryError, match="has saved no"):
            export_network(tmp_path, tmp_path / "weights.safetensors", network)


def test_one_of_several_processes_exports_no_program(session, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ProcessError, match=r"run after the training: torchbase export \S+ \S+program\.pt2"):
        export_network(session.run_dir, tmp_path / "program.pt2")
    export_network(session.run_dir, tmp_path / "weights.safetensors")


@pytest.mark.thorough
def test_a_compiled_network_becomes_the_same_program(session, tmp_path):
    compiled = train(tmp_path, Compile(backend="eager"))
    exported = export_network(compiled.run_dir, tmp_path / "program.pt2", session_class=type(compiled))
    program, _ = load_program(exported.path)
    assert different_values(outputs_of(program, 4), outputs_of(session.network, 4)) == []


def train_on_shards(index, parent):
    train(parent, mini_batch_size=8, mini_batch_parts=2, distributed="shard")


@pytest.mark.thorough
@pytest.mark.skipif(reason_against_forking() is not None, reason=str(reason_against_forking()))
@pytest.mark.parametrize("network", ["best", "last"])
def test_a_sharded_run_becomes_whole_weights_and_a_program(tmp_path, network):
    several.import_sharding()
    several.values_of(2, train_on_shards, tmp_path / "runs")
    (run_dir,) = (tmp_path / "runs").iterdir()
    weights = export_network(run_dir, tmp_path / "weights.safetensors", network)
    plain = TwoInputs().eval()
    plain.load_state_dict(load_file(weights.path))
    exported = export_network(run_dir, tmp_path / "program.pt2", network, session_class=TwoInputsSession)
    program, _ = load_program(exported.path)
    assert different_values(outputs_of(program, 5), outputs_of(plain, 5)) == []
