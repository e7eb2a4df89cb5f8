"""Checkpoints of sharded runs: continued by any number of processes and in both modes, and what a failure leaves."""

import errno
import os
import re
import signal
from functools import partial
from pathlib import Path

import pytest
import several
import torch
from divided import in_suite
from tiny import StopAt, TinySession, config_with

from torchbase import hookimpl
from torchbase.checkpoints import together
from torchbase.checkpoints.listing import list_checkpoints
from torchbase.checkpoints.storage import newest_whole_checkpoint, open_checkpoint
from torchbase.distributed.shards import local_of, whole_of
from torchbase.errors import NonFiniteError, RunDirectoryError
from torchbase.files import mapped
from torchbase.files.bitwise import different_values
from torchbase.files.nested import map_leaves
from torchbase.files.tensors import read_tensors
from torchbase.hooks import ExponentialMovingAverage, GradientAccumulation
from torchbase.testing.forked import reason_against_forking

several.import_sharding()
pytestmark = [
    pytest.mark.skipif(reason_against_forking() is not None, reason=str(reason_against_forking())),
    pytest.mark.filterwarnings("ignore:.*FSDP2-wrapped module"),
]


class AdamSession(TinySession):
    """Adam in the form whose bits don't depend on the number of shards."""

    def init_optimizer(self):
        return torch.optim.Adam(self.network.parameters(), lr=0.05, foreach=False)


def session_in(parent, mode, hooks=(), is_new=False, **changes):
    """A new session, or one that resumes the run of a folder."""
    config = config_with(
        **{"num_epochs": 2, "mini_batch_parts": 4, "mini_batch_size": 8, "distributed": mode, **changes}
    )
    config["data"] = {"training_samples": 40, "validation_samples": 16}
    tags = sorted(path.name for path in parent.iterdir()) if parent.is_dir() and not is_new else []
    session = AdamSession(config, parent, create_run_dir_afresh=not tags, source_run_dir_tag=tags[-1] if tags else None)
    for hook in hooks:
        session.register(hook)
    return session


def technique_hooks():
    return ExponentialMovingAverage(0.9), GradientAccumulation(3)


def live(index, parent, mode, stop):
    """One life of a run, which ends at an iteration or at the end of the run."""
    session_in(parent, mode, (*technique_hooks(), *([StopAt(stop)] if stop else [])))()


def run_of(parent):
    return next(path for path in parent.iterdir())


def end_of(parent):
    """All that a run leaves to go on with."""
    run = run_of(parent)
    saved = newest_whole_checkpoint(run / "states")
    training = saved.parts["training"]
    return {
        "network": saved.parts["network"],
        "optimizer": training["optimizer"],
        "run": training["run"],
        "averages": training["hooks"]["exponential_moving_average"],
        "accumulation": training["hooks"]["gradient_accumulation"],
        "best": torch.load(run / "network.pth", weights_only=True),
        "votes": (run / "votes.jsonl").read_text(),
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    parent = tmp_path_factory.mktemp("runs")
    live(0, parent, "replicate", None)
    return end_of(parent)


LIVES = {
    "2, then 4, then 2 processes": [(2, "shard", 3), (4, "shard", 7), (2, "shard", None)],
    "sharded, then replicated, then sharded": [(2, "shard", 2), (2, "replicate", 6), (4, "shard", None)],
    "replicated on one, then sharded, then alone": [(1, "replicate", 4), (2, "shard", 8), (1, "shard", None)],
}


@pytest.mark.parametrize(
    "lives",
    in_suite(LIVES, "sharded, then replicated, then sharded", "replicated on one, then sharded, then alone"),
)
def test_a_run_goes_on_with_any_number_of_processes_and_in_both_modes(tmp_path, uninterrupted, lives):
    parent = tmp_path / "runs"
    for count, mode, stop in LIVES[lives]:
        several.values_of(count, live, parent, mode, stop)
        saved = list_checkpoints(run_of(parent) / "states")[0]
        assert len(list(saved.glob("shards-*"))) == (count if mode == "shard" and count > 1 else 0)
    assert different_values(end_of(parent), uninterrupted) == []


def train_and_look(index, parent):
    session = session_in(parent, "shard", is_new=True)
    session()
    last = map_leaves(session.network.state_dict(), lambda _, one: whole_of(one).clone())
    session.load_best_network()
    best = map_leaves(session.network.state_dict(), lambda _, one: whole_of(one).clone())
    return last, best


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """The folder of a finished run of two processes, and its last and best network."""
    parent = tmp_path_factory.mktemp("runs") / "of two"
    first, second = several.values_of(2, train_and_look, parent)
    assert different_values(first, second) == []
    return parent, *first


def test_the_best_network_is_one_file_that_plain_torch_loads_into_a_whole_network(sharded):
    parent, _, best = sharded
    state = torch.load(run_of(parent) / "network.pth", weights_only=True)
    assert different_values(state, best) == []
    network = session_in(parent.parent / "plain", "replicate").network
    network.load_state_dict(state)


def test_a_checkpoint_is_read_as_a_whole_by_plain_functions(sharded):
    parent, last, _ = sharded
    saved = newest_whole_checkpoint(run_of(parent) / "states")
    assert different_values(saved.parts["network"], last) == []
    assert read_tensors(saved.path / "network.pth")["layers.0.weight"] is None


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("which", ["best", "last"])
def test_a_new_run_of_one_process_begins_with_its_network(sharded, which, strict):
    parent, last, best = sharded
    tag = run_of(parent).name
    new = TinySession(config_with(), parent, source_run_dir_tag=tag, source_network=which, source_strict=strict)
    assert different_values(new.network.state_dict(), last if which == "last" else best) == []
    new.close()


def begin_with(index, parent, tag):
    config = config_with(distributed="shard", mini_batch_parts=4, mini_batch_size=8)
    with TinySession(config, parent, source_run_dir_tag=tag, source_network="last") as new:
        return map_leaves(new.network.state_dict(), lambda _, one: whole_of(one).clone())


def test_a_new_sharded_run_begins_with_its_network(sharded):
    parent, last, _ = sharded
    for state in several.values_of(2, begin_with, parent, run_of(parent).name):
        assert different_values(state, last) == []


def test_it_is_verified_and_replayed_by_one_process(sharded):
    parent, _, _ = sharded
    session = session_in(parent, "shard")
    found = session.verify(replay=3)
    session.close()
    assert found.is_good, str(found)
    assert found.replay.iterations == 3


class Wait:
    """Waits for the writing thread after each iteration, so that its error is raised there."""

    @hookimpl(trylast=True)
    def on_iteration_end(self, run):
        run.hooks["checkpoint"]._writer._writes.join()


def fail_at(index, parent, action, process, iteration, policy):
    """Trains, and calls ``action`` in place of writing the shards of a process at an iteration."""
    save = together.save_shard

    def save_or_fail(file, pieces, path):
        if index == process and f"{iteration:010d}" in str(path):
            action()
        save(file, pieces, path)

    together.save_shard = save_or_fail  # in this forked process only
    changes = {"checkpoint_every_n_iterations": 2, "on_checkpoint_error": policy}
    session = session_in(parent, "shard", [Wait()], **changes)
    try:
        session()
    except RunDirectoryError as error:
        return type(error), str(error), session.engine is not None
    return [path.name for path in list_checkpoints(Path(session.run_dir) / "states")]


def full_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


def names_in(parent):
    return [path.name[-2:] for path in list_checkpoints(run_of(parent) / "states")]


@pytest.mark.parametrize("process", in_suite([0, 1], 1))
def test_a_full_disk_of_one_process_ends_all_and_the_checkpoint_before_stays(tmp_path, process):
    ended = several.run(2, fail_at, tmp_path, full_disk, process, 4, "raise")
    for index, one in enumerate(ended):
        kind, message, _ = one.value
        assert kind is RunDirectoryError
        assert "checkpoint-epoch-000000-iteration-0000000004: No space left on device" in message
        assert message.startswith("can't write" if index == process else f"process {process}: can't write")
    assert names_in(tmp_path) == ["02"]
    assert [path.name for path in (run_of(tmp_path) / "states").glob(".*")] == []


@pytest.mark.parametrize("process", in_suite([0, 1], 0))
def test_a_full_disk_of_one_process_can_be_a_warning_and_the_training_goes_on(tmp_path, process):
    first, second = several.values_of(2, fail_at, tmp_path, full_disk, process, 4, "warn")
    assert first == second
    assert [name[-2:] for name in first] == ["10", "10"]  # before and after the end of the last epoch


def kill_this_process():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("process", in_suite([0, 1], 1))
def test_a_process_that_is_killed_while_it_writes_leaves_no_checkpoint(tmp_path, process):
    ended = several.run(2, fail_at, tmp_path, kill_this_process, process, 4, "raise")
    assert ended[process].exit_code == -signal.SIGKILL
    other = ended[1 - process]
    assert "has lost the others, since one of them has ended" in other.error
    assert names_in(tmp_path) == ["02"]
    states = run_of(tmp_path) / "states"
    assert [path.name for path in states.glob(".checkpoint-*iteration-0000000004*")] != []
    several.values_of(2, live, tmp_path, "shard", None)
    assert [path.name for path in states.glob(".checkpoint-*")] == []


class SpoilRow:
    """Makes a number of the last process's rows NaN."""

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.is_training and run.progress.iterations == 3 and run.processes.index == 1:
            local_of(dict(run.network.named_parameters())["layers.0.weight"])[-1] = float("nan")


def train_with_nan(index, parent):
    session = session_in(parent, "shard", [SpoilRow(), Wait()], checkpoint_every_n_iterations=1)
    with pytest.raises(NonFiniteError) as caught:
        session()
    return str(caught.value)


def test_a_row_that_is_nan_on_one_process_is_an_error_of_all(tmp_path):
    messages = several.values_of(2, train_with_nan, tmp_path)
    for message in messages:
        assert re.search("'layers.0.weight' of the network contains NaN|loss", message)
    assert names_in(tmp_path) == ["02", "01"]


class BestNetworkFails:
    """Makes the write of the best network of the first epoch fail, while the checkpoint after it waits for it."""

    def __init__(self, error):
        self._error = error

    @hookimpl(tryfirst=True)
    def on_best_epoch(self, run):
        if run.processes.is_main and self._error is not None:
            error, self._error = self._error, None
            run.run_directory.writes.submit("another file", partial(fail_with, error))


def fail_with(error):
    raise error


def train_with_failing_network(index, parent):
    error = RunDirectoryError("this file can't be written")
    session = session_in(parent, "shard", [BestNetworkFails(error)], on_checkpoint_error="warn", num_epochs=3)
    session()
    return [path.name[-2:] for path in list_checkpoints(Path(session.run_dir) / "states")]


def test_a_checkpoint_waits_on_all_processes_for_the_files_before_it(tmp_path):
    assert several.values_of(2, train_with_failing_network, tmp_path)[0][0] == "15"


def train_without_room(index, parent, policy):
    def fail(descriptor, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    mapped._allocate = fail  # in this forked process only
    session = session_in(parent, "shard", on_checkpoint_error=policy)
    try:
        session()
    except RunDirectoryError as error:
        return str(error)
    return None


def test_without_room_for_the_best_network_all_processes_end(tmp_path):
    first, second = several.values_of(2, train_without_room, tmp_path, "raise")
    assert first.startswith("can't write a temporary file in")
    assert second == f"process 0: {first}"
    assert not (run_of(tmp_path) / "network.pth").exists()


def test_without_room_for_the_best_network_the_training_can_go_on(tmp_path):
    assert several.values_of(2, train_without_room, tmp_path, "warn") == [None, None]
    assert not (run_of(tmp_path) / "network.pth").exists()
    assert names_in(tmp_path)[0] == "10"


def test_a_folder_that_is_opened_has_rows_to_read(sharded):
    parent, last, _ = sharded
    opened = open_checkpoint(list_checkpoints(run_of(parent) / "states")[0])
    weight = opened.parts["network"]["layers.0.weight"]
    assert weight.is_sharded
    assert different_values(weight.rows(3, 6), last["layers.0.weight"][3:6]) == []
