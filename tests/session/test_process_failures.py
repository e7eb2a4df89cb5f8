"""An error on one of several processes: all end, and each shows the first error."""

import errno
import itertools
import os
import signal
import sys
from datetime import timedelta
from itertools import product

import pytest
import several
import torch
from divided import in_suite
from every_technique import PlainSession, session_with
from tiny import TinySession, config_with
from whole_runs.test_several_processes import EVERYTHING, Within

from torchbase import hookimpl
from torchbase import hooks as techniques
from torchbase.distributed import joining
from torchbase.distributed.process_group import ProcessGroup
from torchbase.errors import ProcessLostError, RunDirectoryError
from torchbase.files import durable
from torchbase.run_directory import error_files
from torchbase.run_directory.error_files import read_errors

COUNT = 2


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory):
    """Imports what a run needs before processes are forked."""
    TinySession(config_with(num_epochs=1), tmp_path_factory.mktemp("imported"))()


class FaultySession(PlainSession):
    """Fails in some method on some process."""

    where = process = None
    kill = False

    def fail(self, where, process=None):
        if where == self.where and (self.processes.index if process is None else process) == self.process:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyError(f"a fault in {where}")

    def init_datasets(self):
        self.fail("init_datasets")
        return super().init_datasets()

    def init_network(self):
        self.fail("init_network")
        return super().init_network()

    def init_optimizer(self):
        self.fail("init_optimizer")
        return super().init_optimizer()

    def forward_pass(self, mini_batch):
        if self._run.progress.iterations >= 3:
            self.fail("forward_pass" if self.network.training else "validation")
        return super().forward_pass(mini_batch)

    def loss_function(self, *, output, target):
        self.fail("loss_function")
        return super().loss_function(output=output, target=target)

    def dataloader_collate_function(self, samples):
        # A worker has no `processes`: the index comes from the launcher.
        if not self.kill or torch.utils.data.get_worker_info() is not None:
            self.fail("collate", int(os.environ["RANK"]))
        return {name: torch.stack([sample[name] for sample in samples]) for name in ("x", "y")}


class Fails:
    """A hook that fails at an event on one process."""

    def __init__(self, event, process, action):
        def fail(run):
            if run.processes.index == process:
                action()

        setattr(self, event, hookimpl(fail))


def raise_error():
    raise KeyError("a fault in the hook")


def loop_forever():
    for _ in itertools.count():
        pass


def faulty(index, parent, where, process, kill=False, **settings):
    FaultySession.where, FaultySession.process, FaultySession.kill = where, process, kill
    session_with(parent, kind=FaultySession, mini_batch_parts=4, **settings)()


def train_with(index, parent, event, process, action):
    session_with(parent, Fails(event, process, action), kind=PlainSession, mini_batch_parts=4, num_epochs=4)()


def check_names_first(parent, ended, process, text):
    """Checks what each process shows and records of an error on one of them."""
    assert [one.exit_code for one in ended] == [0] * len(ended)  # each has shown its error and ended
    (run_dir,) = parent.iterdir()
    recorded = read_errors(run_dir / "errors")
    assert [one.process for one in recorded] == list(range(len(ended)))
    assert [one.process for one in recorded if one.is_first] == [process]
    for index, one in enumerate(ended):
        assert f"on process {index} of {len(ended)}, on " in one.error
        assert ("ProcessLostError" in one.error) == (index != process)
        if index != process:
            first = f"the first error was on process {process}, on "
            assert first in one.error
            assert text in one.error.partition(first)[2]
            assert f"its traceback is in {run_dir / 'errors' / f'process-{process}.txt'}" in one.error
        else:
            assert text in one.error
    assert text in (run_dir / "errors" / f"process-{process}.txt").read_text()
    assert not list(run_dir.rglob(".*.tmp"))
    return run_dir


METHODS = [
    *[(where, 1) for where in ("init_datasets", "init_network", "init_optimizer", "loss_function")],
    *[(where, process) for where in ("forward_pass", "validation") for process in (0, 1)],
]


@pytest.mark.parametrize(
    ("where", "process"), in_suite(METHODS, *(one for one in METHODS if one != ("forward_pass", 1)))
)
def test_an_error_in_a_method_on_one_process_ends_all(tmp_path, where, process):
    ended = several.run(COUNT, faulty, tmp_path, where, process)
    check_names_first(tmp_path, ended, process, f"a fault in {where}")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_reading_on_one_process_ends_all(tmp_path, workers):
    settings = {"dataloader_num_workers": workers}
    ended = several.run(COUNT, _faulty_with, tmp_path, "collate", 1, False, settings)
    check_names_first(tmp_path, ended, 1, "a fault in collate")


def _faulty_with(index, parent, where, process, kill, settings):
    faulty(index, parent, where, process, kill, **settings)


def test_a_killed_data_worker_ends_all(tmp_path):
    ended = several.run(COUNT, _faulty_with, tmp_path, "collate", 1, True, {"dataloader_num_workers": 2})
    check_names_first(tmp_path, ended, 1, "DataLoader worker")


EVENTS = [
    "on_run_start",
    "on_epoch_start",
    "on_iteration_start",
    "on_gradients_ready",
    "on_iteration_end",
    "on_phase_end",
    "on_best_epoch",
    "on_epoch_end",
    "on_run_end",
]


# The others end in the same way wherever process 1 fails; the main one also writes, after epochs and at the end.
@pytest.mark.parametrize(
    ("event", "process"),
    in_suite(list(product(EVENTS, (0, 1))), *((event, 1) for event in EVENTS), ("on_best_epoch", 0), ("on_run_end", 0)),
)
def test_an_error_of_a_hook_on_one_process_ends_all(tmp_path, event, process):
    ended = several.run(2, train_with, tmp_path, event, process, raise_error)
    check_names_first(tmp_path, ended, process, "a fault in the hook")


def test_the_end_of_the_program_on_one_process_ends_all(tmp_path):
    ended = several.run(3, train_with, tmp_path, "on_epoch_end", 1, sys.exit)
    check_names_first(tmp_path, ended, 1, "SystemExit")


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("process", in_suite([0, 2], 0))
def test_a_killed_process_ends_all_at_once(tmp_path, process):
    ended = several.run(3, train_with, tmp_path, "on_gradients_ready", process, kill_itself)
    assert ended.pop(process).exit_code == -signal.SIGKILL
    for one in ended:
        assert one.exit_code == 0
        assert "since one of them has ended" in one.error
        assert "no process has recorded another error in" in one.error
        assert "so one was probably killed" in one.error


def train_within(index, parent, event, process, action, seconds):
    joining.TIME_LIMIT = timedelta(seconds=seconds)
    train_with(index, parent, event, process, action)


def test_an_endless_loop_on_one_process_ends_the_others_after_the_time_limit(tmp_path):
    def end_loop(processes):
        processes[0].join()
        processes[1].kill()  # as the launcher does

    ended = several.run(COUNT, train_within, tmp_path, "on_epoch_end", 1, loop_forever, 2, killed=end_loop)
    assert ended.pop(1).exit_code == -signal.SIGKILL
    for one in ended:
        assert one.exit_code == 0
        assert "since one of them doesn't answer" in one.error or "since one of them has ended" in one.error
    assert any("doesn't answer" in one.error for one in ended)


def without_space_for_checkpoints(index, parent):
    if index == 0:

        def write(path, fill):
            raise RunDirectoryError(errno.ENOSPC, f"can't write {path}: No space left on device")

        durable.write_folder_durably = write
    session_with(parent, kind=PlainSession, mini_batch_parts=4)()


def test_a_checkpoint_that_cannot_be_written_ends_all(tmp_path):
    ended = several.run(COUNT, without_space_for_checkpoints, tmp_path)
    check_names_first(tmp_path, ended, 0, "No space left on device")


def without_space(path, write):
    raise RunDirectoryError(errno.ENOSPC, f"can't write {path}: No space left on device")


def without_space_for_errors(index, parent):
    session = session_with(parent, kind=PlainSession, mini_batch_parts=4)
    error_files.write_durably = without_space
    session.register(Fails("on_epoch_end", 1, raise_error))
    session()


def test_an_error_that_cannot_be_recorded_is_shown_all_the_same(tmp_path):
    first, second = several.run(2, without_space_for_errors, tmp_path)
    assert "a fault in the hook" in second.error
    for one in (first, second):
        assert one.exit_code == 0
        assert "this error could not be recorded for the other processes: " in one.error
        assert "No space left on device" in one.error
    assert "no process has recorded another error" in first.error


def elsewhere(index, parent):
    class Gathers:
        @hookimpl
        def on_epoch_end(self, run):
            if index == 1:
                run.processes.gather(0, "a value that only this process gathers")

    session_with(parent, Gathers(), kind=PlainSession, mini_batch_parts=4)()


def test_processes_at_different_places_end_and_name_both(tmp_path):
    for one in several.run(2, elsewhere, tmp_path):
        assert one.exit_code == 0
        assert "The processes are at different places of the program" in one.error
        assert "process 1 for a value that only this process gathers" in one.error


def resumed(index, parent, event, process, action):
    session = PlainSession.resume(parent)
    session.register(Fails(event, process, action))
    session()


def test_an_error_of_an_earlier_attempt_is_not_named_as_the_first(tmp_path):
    check_names_first(tmp_path, several.run(2, train_with, tmp_path, "on_epoch_end", 1, raise_error), 1, "a fault in")
    first, _ = several.run(2, resumed, tmp_path, "on_epoch_end", 1, kill_itself)
    assert "no process has recorded another error in" in first.error
    ended = several.run(2, resumed, tmp_path, "on_epoch_end", 0, sys.exit)
    run_dir = check_names_first(tmp_path, ended, 0, "SystemExit")
    assert "a fault in the hook" in (run_dir / "errors" / "process-1.txt").read_text()  # of the first attempt


def caught(index, parent):
    session = session_with(parent, kind=PlainSession, mini_batch_parts=4, num_epochs=4)
    name = session.register(Fails("on_epoch_end", index, raise_error))
    with pytest.raises(KeyError):
        session()
    session.unregister(name)
    return session(), session_with(parent / "another", kind=PlainSession, mini_batch_parts=4)()


def test_the_program_may_go_on_after_an_error_that_all_processes_have(tmp_path):
    for again, another in several.values_of(2, caught, tmp_path):
        assert (again.epochs_done, another.epochs_done) == (4, 2)


def goes_on_alone(index, parent):
    session = session_with(parent, Fails("on_epoch_end", 1, kill_itself), kind=PlainSession, mini_batch_parts=4)
    with pytest.raises(ProcessLostError):
        session()
    session_with(parent / "another", kind=PlainSession, mini_batch_parts=4)


def test_a_process_that_has_lost_the_others_cannot_begin_another_session(tmp_path):
    first, _ = several.run(2, goes_on_alone, tmp_path)
    assert "has left the others after an earlier error" in first.error
    assert not (tmp_path / "another").exists()


class NotesExchanges:
    """Notes what the processes exchange while an error is handled."""

    def __init__(self, patch):
        self.patch, self.exchanges = patch, []

    @hookimpl(tryfirst=True)
    def on_exception(self):
        for name in ("gather", "reduce", "gather_and_reduce", "tell_tensors"):
            note = lambda *arguments, name=name, **settings: self.exchanges.append(name)  # noqa: E731
            self.patch.setattr(ProcessGroup, name, note)


EVENTS = ["on_run_start", "on_iteration_end", "on_phase_end", "on_epoch_end", "on_run_end"]


def fail_with_everything(index, parent):
    """Returns the exchanges after an error at each event. One program has all errors, since its first run is slow."""
    exchanges = {}
    for event in EVENTS:
        with pytest.MonkeyPatch.context() as patch:
            notes = NotesExchanges(patch)
            hooks = [*(make() for make in EVERYTHING), techniques.Profile(range(2, 3)), techniques.NetworkGraph()]
            failing = Fails(event, index, raise_error)
            session = session_with(parent / event, *hooks, notes, failing, kind=Within, mini_batch_size=20)
            with pytest.raises(KeyError):
                session()
        exchanges[event] = notes.exchanges
    return exchanges


def test_no_hook_waits_for_another_process_after_an_error(tmp_path):
    expected = {event: [] for event in EVENTS}
    assert several.values_of(2, fail_with_everything, tmp_path) == [expected] * 2
