"""Fingerprints of real runs: equal for equal bits, and the first difference is named."""

import os
import random
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import several
import torch
from adversaries import AdversarialSession
from divided import in_suite
from every_technique import PlainNetwork, PlainSession, session_with
from tiny import StopAt, TinySession

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.errors import IntervalError
from torchbase.hooks import Fingerprint
from torchbase.run_directory.fingerprint_differences import compare_fingerprints
from torchbase.run_directory.fingerprints import FINGERPRINTS_FILE, read_fingerprints
from torchbase.testing import check_hook
from torchbase.testing.instruments import KillAt


def file_of(session):
    return Path(session.run_dir, FINGERPRINTS_FILE)


def read(session):
    states, damaged = read_fingerprints(Path(session.run_dir))
    assert damaged == 0
    return states


def trained(parent, *hooks, every="1it", dropout=0.3, **settings):
    session = session_with(parent, *hooks, Fingerprint(every), dropout=dropout, **settings)
    session()
    return session


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of ten iterations in two epochs."""
    return trained(tmp_path_factory.mktemp("whole"))


def test_equal_runs_have_equal_files(whole, tmp_path, caplog):
    with caplog.at_level("INFO", "torchbase"):
        again = trained(tmp_path)
    assert file_of(again).read_bytes() == file_of(whole).read_bytes()
    states = read(again)
    assert [one.place for one in states] == [
        (0, "start"),
        *((number, "iteration") for number in range(1, 11)),
        (10, "run"),
    ]
    assert [list(one.parts) for one in states[:2]] == [["network", "optimizer"], ["network", "optimizer", "random"]]
    assert len({one.bits for one in states}) == 12
    assert f"The bits after iteration 10: {states[-1].bits}" in caplog.text


def test_epochs_are_recorded_after_their_validation(whole, tmp_path):
    states = read(trained(tmp_path, every="1ep"))
    assert [one.place for one in states] == [(0, "start"), (5, "epoch"), (10, "epoch"), (10, "run")]
    assert states[-1].parts == read(whole)[-1].parts


def test_a_run_with_another_seed_differs_from_the_start(whole, tmp_path):
    found = compare_fingerprints(read(whole), read(trained(tmp_path, seed=5)))
    assert found.first_of_parts() == {
        "network": (0, "start"),
        "optimizer": (1, "iteration"),
        "random": (1, "iteration"),
    }


class ChangesAt3:
    def __init__(self, change):
        self.change = change

    @hookimpl
    def on_gradients_ready(self, run):
        if run.progress.iterations == 2:
            with torch.no_grad():
                self.change(run)


class ChangesAfter3:
    def __init__(self, change):
        self.change = change

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.is_training and phase.progress.iterations == 3:
            with torch.no_grad():
                self.change(run)


def bias_of(run):
    return run.network.layers[3].bias


def next_weight(run):
    weight = run.network.layers[0].weight
    weight[0, 0] = weight[0, 0].nextafter(torch.tensor(9.0))


CHANGES = {
    "network.layers.0.weight": next_weight,
    "network.layers.1.running_mean": lambda run: run.network.layers[1].running_mean.neg_(),
    "network.layers.1.num_batches_tracked": lambda run: run.network.layers[1].num_batches_tracked.add_(1),
    "optimizer.layers.3.bias.exp_avg": lambda run: run.optimizer.state[bias_of(run)]["exp_avg"].add_(1e-3),
    "optimizer.layers.3.bias.exp_avg_sq": lambda run: run.optimizer.state[bias_of(run)]["exp_avg_sq"].mul_(2),
    "optimizer.layers.3.bias.step": lambda run: run.optimizer.state[bias_of(run)]["step"].add_(1),
    "optimizer.param_groups.0.lr": lambda run: run.optimizer.param_groups[0].update(lr=0.04),
    "random.random": lambda run: random.random(),
    "random.numpy": lambda run: np.random.rand(),
    "random.torch": lambda run: torch.rand(1),
}


IN_SUITE = ("network.layers.0.weight", "optimizer.layers.3.bias.exp_avg", "optimizer.param_groups.0.lr", "random.torch")


@pytest.mark.parametrize("name", in_suite(list(CHANGES), *IN_SUITE))
def test_a_change_is_named_at_the_iteration_where_it_happens(whole, tmp_path, name):
    found = compare_fingerprints(read(whole), read(trained(tmp_path, ChangesAfter3(CHANGES[name]), num_epochs=1)))
    assert found.last_same == (2, "iteration")
    assert found.first_different == (3, "iteration")
    assert found.different[3, "iteration"] == [name]


def test_what_a_later_hook_changes_is_seen(whole, tmp_path):
    session = session_with(tmp_path, Fingerprint("1it"), ChangesAfter3(next_weight), dropout=0.3, num_epochs=1)
    session()
    assert compare_fingerprints(read(whole), read(session)).first_different == (3, "iteration")


def test_draws_within_an_iteration_that_affect_nothing_are_seen(whole, tmp_path):
    session = trained(tmp_path, ChangesAt3(lambda run: torch.rand(1)), num_epochs=1)
    assert compare_fingerprints(read(whole), read(session)).different == {(3, "iteration"): ["random.torch"]}


class Unseeded:
    """Draws from a generator that no seed determines."""

    @hookimpl
    def on_gradients_ready(self, run):
        for parameter in run.network.parameters():
            parameter.grad += 0.01 * random.SystemRandom().random()


def test_two_runs_of_a_program_with_an_unseeded_generator_differ_at_once(tmp_path):
    first, second = (read(trained(tmp_path / name, Unseeded(), num_epochs=1)) for name in "ab")
    found = compare_fingerprints(first, second)
    assert (found.last_same, found.first_different) == ((0, "start"), (1, "iteration"))
    assert "random" not in found.first_of_parts()


@pytest.mark.thorough
def test_the_hook_follows_the_rules():
    check_hook(partial(Fingerprint, "2it"), observes=True, processes=2)  # raises an error if it doesn't


class CalledAfterCheckpoint(TinySession):
    def default_hooks(self):
        return [Fingerprint("2it"), *super().default_hooks()]


class CalledBeforeCheckpoint(TinySession):
    def default_hooks(self):
        return [*super().default_hooks(), Fingerprint("2it")]


def train_until_killed(_, kind, parent):
    session_with(parent, KillAt(9), kind=kind, dropout=0.3, checkpoint_every_n_iterations=4)()


@pytest.mark.parametrize("kind", [CalledAfterCheckpoint, CalledBeforeCheckpoint])
def test_a_killed_and_resumed_run_has_the_file_of_an_uninterrupted_one(tmp_path, kind):
    session_with(tmp_path / "whole", kind=kind, dropout=0.3)()
    (expected,) = (file.read_text() for file in tmp_path.glob(f"whole/*/{FINGERPRINTS_FILE}"))
    assert several.run(1, train_until_killed, kind, tmp_path / "killed")[0].exit_code < 0
    (file,) = tmp_path.glob(f"killed/*/{FINGERPRINTS_FILE}")
    assert file.read_text() != expected
    kind.resume(tmp_path / "killed")()
    assert file.read_text() == expected


def test_iterations_that_run_again_with_other_bits_are_named(tmp_path, caplog):
    session = session_with(tmp_path, Fingerprint("1it"), dropout=0.3, num_epochs=1)
    session.register(StopAt(2))
    session()
    saved = tmp_path / "saved"
    shutil.copytree(session.run_dir, saved / "run")
    session.unregister("stop_at (of the checks)")
    session()
    lines = file_of(session).read_bytes()
    for change, warned in ((lambda run: None, False), (next_weight, True)):
        caplog.clear()
        (saved / "run" / FINGERPRINTS_FILE).write_bytes(lines)  # as after a kill: the checkpoint is behind
        copy = shutil.copytree(saved, tmp_path / str(warned))
        resumed = TinySession.resume(copy, "run")
        resumed.register(ChangesAfter3(change))
        resumed.register(Fingerprint("1it"))
        resumed()
        message = "Iteration 3 ran again after the run was resumed, and has other bits than before: network.layers.0.w"
        assert (message in caplog.text) == warned
        assert caplog.text.count("ran again") == warned
        assert (file_of(resumed).read_bytes() == lines) != warned


def test_a_finished_run_that_is_called_again_keeps_its_file(tmp_path):
    session = trained(tmp_path)
    before = file_of(session).read_bytes()
    session()
    again = TinySession.resume(tmp_path)
    again.register(Fingerprint("1it"))
    again()
    assert file_of(session).read_bytes() == before


def train_in_parts(_, parent, workers):
    settings = {"mini_batch_size": 8, "mini_batch_parts": 2, "dataloader_num_workers": workers, "drop_last": True}
    trained(parent, every="2it", **settings)


@pytest.mark.thorough  # several processes are compared in tests/whole_runs, too
def test_the_number_of_processes_and_of_workers_makes_no_difference(tmp_path):
    for name, processes, workers in (("one", 1, 0), ("two", 2, 0), ("workers", 1, 1)):
        several.values_of(processes, train_in_parts, tmp_path / name, workers)
    files = {file.parts[-3]: file.read_bytes() for file in tmp_path.glob(f"*/*/{FINGERPRINTS_FILE}")}
    assert set(files) == {"one", "two", "workers"}
    assert files["one"] == files["two"] == files["workers"]
    assert len(files["one"].splitlines()) > 3


def test_several_optimizers_are_named(tmp_path):
    session = session_with(tmp_path, Fingerprint("1ep"), kind=AdversarialSession, num_epochs=1)
    session()
    names = read(session)[-1].parts["optimizer"].names
    assert {name.partition(".")[0] for name in names} == {"generator", "discriminator"}
    assert any(name.endswith((".exp_avg", ".momentum_buffer")) for name in names)


class WithExtraState(PlainNetwork):
    def get_extra_state(self):
        return {"object": self.made_of} if hasattr(self, "made_of") else None

    def set_extra_state(self, state):
        self.made_of = state


class ExtraStateSession(PlainSession):
    architecture = "WithExtraState"

    def init_network(self):
        network = WithExtraState()
        network.made_of = torch.device  # a class can't be hashed
        return network


def test_what_can_not_be_hashed_is_named_once_and_the_rest_is_hashed(tmp_path, caplog):
    session = session_with(tmp_path, Fingerprint("1it"), kind=ExtraStateSession, num_epochs=1)
    session.unregister("checkpoint")  # which can't save it either
    session.unregister("best_validation")
    session()
    assert caplog.text.count("network._extra_state isn't part of the fingerprints, since") == 1
    assert set(read(session)[-1].parts["network"].names) == {"0.weight", "0.bias", "2.weight", "2.bias"}


class DiskTrouble:
    """A folder is in the place of the file for some iterations."""

    @hookimpl
    def on_iteration_end(self, run, phase):
        file = run.run_directory.path / FINGERPRINTS_FILE
        if phase.is_training and phase.progress.iterations in (3, 6):
            run.run_directory.writes.join()
            if phase.progress.iterations == 3:
                file.rename(f"{file}.moved")
                file.mkdir()
            else:
                file.rmdir()
                os.rename(f"{file}.moved", file)


def test_no_line_is_lost_when_the_disk_has_trouble_for_a_while(whole, tmp_path, caplog):
    session = trained(tmp_path, DiskTrouble(), on_checkpoint_error="warn")
    assert "The training continues, and earlier files stay" in caplog.text
    assert file_of(session).read_bytes() == file_of(whole).read_bytes()


def test_an_engine_without_a_run_directory_is_warned(caplog):
    class Step:
        name = "step"

        @hookimpl
        def run_iteration(self):
            pass

    network = torch.nn.Linear(2, 1)
    run = Run(Phase("training", [1, 2], is_training=True), 1, network=network)
    Engine(hooks=[Step(), Fingerprint("1it")]).run(run)
    assert caplog.text.count("Fingerprint records nothing, since this run has no run directory") == 1


def test_seconds_are_refused():
    with pytest.raises(IntervalError, match="isn't possible here"):
        Fingerprint("5s")
