import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock

import pytest
import several
import sharded
import torch
from divided import in_suite
from every_technique import session_with, training_differences
from made_up import Command
from tiny import KeepNetworks, StopAt, TinySession

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.errors import HookError, RunDirectoryError
from torchbase.files import durable
from torchbase.files.bitwise import different_values
from torchbase.hooks import BestValidation, ExponentialMovingAverage, KeepBest
from torchbase.run_directory.directory import RunDirectory
from torchbase.testing import check_hook
from torchbase.utils import SavedBest, read_best_networks, verify_run

FOLDER = "best_networks"


class Scores:
    """Gives each epoch a score on the validation set."""

    def __init__(self, scores, phase="validation-valid"):
        self.scores, self.phase = scores, phase

    @hookimpl
    def compute_phase_metrics(self, run, phase):
        return {"score": self.scores[run.epoch - 1]} if phase.name == self.phase else {}


def run_with(scores, tmp_path, *hooks, mode="max", count=2):
    """Runs an epoch for each score; returns the epochs of the networks that are listed, the best first."""
    network = torch.nn.Linear(1, 1)
    run = Run(
        training=Phase("training", [1], is_training=True),
        validation=(Phase("validation-valid", [1], votes=True),),
        max_epochs=len(scores),
        network=network,
        run_directory=RunDirectory.create(tmp_path),
    )

    def step(run, phase, batch):
        network.weight.data.fill_(run.epoch)

    Engine(step, [Scores(scores), KeepBest(count, "score", mode=mode), *hooks]).run(run)
    check_files(run.run_directory.path)
    best = read_best_networks(run.run_directory.path)
    for one in best.networks if best is not None else ():
        state = torch.load(run.run_directory.path / one.file, weights_only=True)
        assert (state["weight"].item(), one.iteration, one.value) == (one.epoch, one.epoch, scores[one.epoch - 1])
    return [] if best is None else [one.epoch for one in best.networks]


def files_of(run_dir):
    return {f"{FOLDER}/{path.name}" for path in Path(run_dir, FOLDER).glob("*.pth")}


def check_files(run_dir):
    """The files are those that are listed, and whole."""
    best = read_best_networks(Path(run_dir))
    listed = [] if best is None else [one.file for one in best.networks]
    assert files_of(run_dir) == set(listed)
    for file in listed:
        torch.load(Path(run_dir, file), weights_only=True)


@pytest.mark.parametrize(
    ("scores", "mode", "epochs"),
    [
        ([1.0, 2.0, 3.0, 4.0], "max", [4, 3]),
        ([4.0, 3.0, 2.0, 1.0], "max", [1, 2]),
        ([2.0, 4.0, 1.0, 3.0], "max", [2, 4]),
        ([2.0, 4.0, 1.0, 3.0], "min", [3, 1]),
        ([2.0, 2.0, 2.0], "max", [1, 2]),  # of equal ones the earlier
        ([math.nan, 1.0, math.nan], "max", [2]),
        ([-math.inf, math.inf, 0.0], "max", [2, 3]),
        ([math.nan], "min", []),
    ],
)
def test_the_best_networks_are_saved_and_listed(tmp_path, scores, mode, epochs):
    assert run_with(scores, tmp_path, mode=mode) == epochs


def test_the_list_is_plain_json_and_names_have_epoch_and_value(tmp_path):
    assert run_with([0.25, 0.125, math.inf], tmp_path) == [3, 1]
    (run_dir,) = tmp_path.iterdir()
    name = f"{FOLDER}/epoch-000001-iteration-0000000001-score-0.25.pth"
    assert json.loads((run_dir / FOLDER / "networks.json").read_text()) == {
        "format_version": 1,
        "monitor": "score",
        "phase": "validation-valid",
        "mode": "max",
        "networks": [
            {"file": name.replace("1-score-0.25", "3-score-inf").replace("000001", "000003", 1), **third}
            if third["epoch"] == 3
            else {"file": name, **third}
            for third in (
                {"epoch": 3, "iteration": 3, "value": "inf"},
                {"epoch": 1, "iteration": 1, "value": 0.25},
            )
        ],
    }
    assert read_best_networks(run_dir).networks[1] == SavedBest(name, 1, 1, 0.25)


class Within(TinySession):
    def init_datasets(self):
        training, validation = super().init_datasets()
        return training, replace(validation, every=("2it", "1ep"))


SCORES = [2.0, 1.0, 4.0, 3.0, 5.0]


def hooks_for(scores=SCORES, count=2):
    return [Scores(scores), KeepBest(count, "score", "validation-valid", mode="max")]


def result_of(run_dir):
    files = {name: torch.load(Path(run_dir, name), weights_only=True) for name in files_of(run_dir)}
    return {"list": vars(read_best_networks(Path(run_dir))), "files": files}


class InLine:
    """Checks when training resumes that the files are those of its checkpoint, as many as the rule says."""

    is_checked = False

    @hookimpl
    def on_epoch_start(self, run):
        if not self.is_checked:
            self.is_checked = True
            check_files(run.run_directory.path)
            assert len(files_of(run.run_directory.path)) == min(2, run.epochs_done)


@pytest.fixture(scope="module")
def instants(tmp_path_factory):
    """A run, and its directory at each instant at which a kill leaves something else on the disk."""
    parent = tmp_path_factory.mktemp("instants")
    session = session_with(parent / "whole", *hooks_for(), num_epochs=len(SCORES), checkpoint_every_n_iterations=2)
    copies, patch, states, lock = [], pytest.MonkeyPatch(), set(), Lock()

    def copy(run_dir):
        file = run_dir / FOLDER / "networks.json"
        state = frozenset(path.name for path in run_dir.rglob("*") if "tmp" not in path.name)
        listed = file.read_bytes() if file.exists() else b""
        if (state, listed) not in states:
            target = parent / str(len(copies)) / run_dir.name
            shutil.copytree(run_dir, target)
            states.add((state, listed))
            copies.append(target.parent)

    def copy_before(function):
        def call(*arguments):
            with lock:  # the thread that writes checkpoints replaces nothing while this one copies
                for _ in range(100):
                    try:
                        copy(Path(session.run_dir))
                        break
                    except (OSError, shutil.Error):  # the thread has renamed or removed what was listed
                        shutil.rmtree(parent / str(len(copies)), ignore_errors=True)
                else:
                    pytest.fail("the run directory changed while each of 100 copies was made")
                return function(*arguments)

        return call

    patch.setattr(durable, "sync_folder", copy_before(durable.sync_folder))
    patch.setattr(durable.os, "replace", copy_before(durable.os.replace))
    try:
        session()
    finally:
        patch.undo()
    return session, copies


INSTANTS = range(50)


@pytest.mark.parametrize("instant", in_suite(list(INSTANTS), 12, 28, 29, 40))
def test_a_run_that_was_killed_at_any_instant_resumes_with_the_networks_of_its_checkpoint(instants, instant, tmp_path):
    session, copies = instants
    if instant >= len(copies):
        pytest.skip("the run has fewer instants")
    shutil.copytree(copies[instant], tmp_path, dirs_exist_ok=True)
    resumed = TinySession.resume(tmp_path, next(path.name for path in tmp_path.iterdir() if path.is_dir()))
    for hook in (*hooks_for(), InLine()):
        resumed.register(hook)
    resumed()
    assert different_values(result_of(session.run_dir), result_of(resumed.run_dir)) == []
    check_files(resumed.run_dir)


def test_a_stopped_run_with_validation_within_its_epochs_ends_like_an_uninterrupted_one(tmp_path):
    scores = [1.0, 2.0]
    make = lambda: [Scores(scores), KeepBest(3, "loss", "validation-valid")]  # noqa: E731
    whole = session_with(tmp_path / "whole", *make(), kind=Within, checkpoint_every_n_iterations=2)
    whole()
    stopped = session_with(tmp_path / "stopped", *make(), kind=Within, checkpoint_every_n_iterations=2)
    for stop in (2, 4, 9):
        stopped.register(StopAt(stop))
        stopped()
        stopped = Within.resume(tmp_path / "stopped")
        for hook in make():
            stopped.register(hook)
    stopped()
    assert different_values(result_of(whole.run_dir), result_of(stopped.run_dir)) == []
    check_files(stopped.run_dir)
    assert len(files_of(stopped.run_dir)) == 3
    plain = session_with(tmp_path / "plain", kind=Within)
    plain()
    assert training_differences(whole, plain) == []


@pytest.mark.parametrize(
    ("best", "keep", "chosen"),
    [
        (BestValidation("score", mode="max"), KeepBest(2), ("score", "max", [3, 4])),
        (BestValidation("score", mode="max"), KeepBest(2, mode="min"), ("score", "min", [2, 1])),
        (BestValidation("score", mode="max"), KeepBest(2, "loss"), ("loss", "min", None)),
    ],
)
def test_without_a_value_of_its_own_it_follows_what_the_best_network_is_chosen_by(tmp_path, best, keep, chosen):
    class ByScore(TinySession):
        def init_best_validation(self):
            return best

    session = session_with(tmp_path, Scores(SCORES), keep, kind=ByScore, num_epochs=4)
    session()
    kept = read_best_networks(Path(session.run_dir))
    assert (kept.monitor, kept.mode) == chosen[:2]
    if chosen[2] is not None:
        assert [one.epoch for one in kept.networks] == chosen[2]


@pytest.mark.thorough
def test_it_passes_the_checks_of_a_hook():
    check_hook(partial(KeepBest, 2, phase="validation-valid"), observes=True, processes=2)


def test_each_network_is_loaded_verified_and_shown(tmp_path, capsys):
    networks = KeepNetworks()
    session = session_with(tmp_path, *hooks_for(), networks, num_epochs=4)
    session()
    best = read_best_networks(Path(session.run_dir))
    assert [one.epoch for one in best.networks] == [3, 4]
    for one in best.networks:
        session.load_best_network(one.file)
        assert different_values(dict(session.network.state_dict()), networks.networks[one.epoch]) == []
    with pytest.raises(RunDirectoryError, match=rf"isn't there\..*To fix, pass one of .*: network.pth, {FOLDER}/epoch"):
        session.load_best_network(f"{FOLDER}/epoch-000003.pth")
    assert f"{best.networks[0].file}: whole" in str(verify_run(Path(session.run_dir)))
    assert session.verify(replay=2).is_good
    _, out, _ = Command(capsys)("show", session.run_dir)
    (shown,) = [part.splitlines() for part in out.split("\n\n") if part.startswith("best networks")]
    assert shown[0] == "best networks, by the score of valid"
    assert [line.split() for line in shown[1:]] == [
        ["epoch", "value", "file"],
        ["3", "4.000", best.networks[0].file],
        ["4", "3.000", best.networks[1].file],
    ]
    Path(session.run_dir, best.networks[0].file).rename(tmp_path / "elsewhere")
    status, out, _ = Command(capsys)("show", session.run_dir)
    assert status == 1
    assert f"{best.networks[0].file} is listed and missing" in " ".join(out.split())
    Path(session.run_dir, best.networks[1].file).write_bytes(b"")
    assert not verify_run(Path(session.run_dir)).is_good


def test_with_averaged_weights_the_averages_are_saved(tmp_path):
    session = session_with(tmp_path, ExponentialMovingAverage(0.9), KeepBest(1), num_epochs=1)
    session()
    (saved,) = read_best_networks(Path(session.run_dir)).networks
    best = torch.load(Path(session.run_dir, "network.pth"), weights_only=True)
    assert different_values(torch.load(Path(session.run_dir, saved.file), weights_only=True), best) == []


def test_a_listed_network_that_is_missing_is_named_and_no_longer_listed(tmp_path, caplog):
    session = session_with(tmp_path, *hooks_for(), num_epochs=3)
    session()
    gone = read_best_networks(Path(session.run_dir)).networks[0].file
    Path(session.run_dir, gone).unlink()
    Path(session.run_dir, FOLDER, "notes.txt").write_text("mine")
    resumed = TinySession.resume(tmp_path)
    for hook in hooks_for():
        resumed.register(hook)
    resumed()
    assert f"{gone} is missing in" in caplog.text
    check_files(session.run_dir)
    assert [one.epoch for one in read_best_networks(Path(session.run_dir)).networks] == [1]
    assert Path(session.run_dir, FOLDER, "notes.txt").exists()


def test_fewer_networks_than_before_and_another_value(tmp_path):
    session = session_with(tmp_path, *hooks_for(count=3), num_epochs=3)
    session()
    fewer = TinySession.resume(tmp_path)
    for hook in hooks_for(count=1):
        fewer.register(hook)
    fewer()
    assert [one.epoch for one in read_best_networks(Path(session.run_dir)).networks] == [3]
    other = TinySession.resume(tmp_path)
    other.register(KeepBest(2))
    with pytest.raises(
        HookError, match=r"by another value than KeepBest has now: by monitor 'score', mode 'max'. To f"
    ):
        other()


def test_a_full_disk_loses_no_listed_network(tmp_path, monkeypatch, caplog):
    failures = iter([True])
    write = durable.os.replace

    def replace_file(source, target):
        if FOLDER in str(target) and str(target).endswith(".pth") and next(failures, False):
            raise OSError(28, "No space left on device")
        write(source, target)

    monkeypatch.setattr(durable.os, "replace", replace_file)
    session = session_with(tmp_path, *hooks_for(), num_epochs=4, on_checkpoint_error="warn")
    session()
    assert "The training continues, and earlier files stay: can't write" in caplog.text
    check_files(session.run_dir)
    assert [one.epoch for one in read_best_networks(Path(session.run_dir)).networks] == [3, 4]


def saved_by_process(index, parent, distributed):
    session = session_with(
        parent,
        KeepBest(1, phase="validation-valid"),
        kind=sharded.BlocksSession,
        mini_batch_size=20,
        mini_batch_parts=2,
        num_epochs=1,
        distributed=distributed,
    )
    session()
    return result_of(session.run_dir) if index == 0 else None


@pytest.mark.parametrize("distributed", in_suite(["shard", "replicate"], "shard"))
def test_several_processes_save_the_whole_network_once(tmp_path, distributed):
    if distributed == "shard":
        several.import_sharding()
    result, _ = several.values_of(2, saved_by_process, tmp_path, distributed)
    (state,) = result["files"].values()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        name: tuple(value.shape) for name, value in sharded.Blocks().state_dict().items()
    }


def test_several_voting_sets_need_a_phase_and_a_run_needs_a_directory(tmp_path):
    def run_of(*names, **arguments):
        phases = tuple(Phase(f"validation-{name}", [1], votes=True) for name in names)
        training = Phase("training", [1], is_training=True)
        return Run(training=training, validation=phases, max_epochs=1, network=torch.nn.Linear(1, 1), **arguments)

    with pytest.raises(HookError, match="There are several validation sets, and the one to monitor is not named"):
        Engine(lambda run, phase, batch: None, [KeepBest(1)]).run(run_of("a", "b"))
    with pytest.raises(HookError, match="KeepBest writes into the run directory, but this run has none"):
        Engine(lambda run, phase, batch: None, [KeepBest(1)]).run(run_of("a"))
    engine = Engine(lambda run, phase, batch: None, [KeepBest(1)])
    engine.register(KeepBest(2), "another")
    with pytest.raises(HookError, match="Two hooks KeepBest would list their networks in the same file"):
        engine.run(run_of("a"))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
def test_an_invalid_count_raises(count):
    with pytest.raises(HookError, match="the number of networks, at least 1, but got"):
        KeepBest(count)
