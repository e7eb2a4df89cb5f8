"""Sessions on several processes: how they begin, end and follow each other, and what they record."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import several
import torch
from every_technique import PlainSession, session_with
from tiny import StopAt, TinySession, config_with

from torchbase import hookimpl
from torchbase.command_line import main
from torchbase.distributed.joining import join
from torchbase.distributed.processes import SingleProcess
from torchbase.errors import ConfigError, HookError, RunDirectoryError, RunDirectoryLockedError
from torchbase.files.bitwise import different_values
from torchbase.run_directory.followed import FollowedRunDirectory
from torchbase.session.together import tell_result


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory):
    """Imports what a run needs before processes are forked."""
    TinySession(config_with(num_epochs=1), tmp_path_factory.mktemp("imported"))()


def train(index, parent, settings=None, stop=None, kind=PlainSession):
    session = session_with(parent, *([StopAt(stop)] if stop else []), kind=kind, **(settings or {}))
    session()
    return weights_of(session)


def resume(index, parent, **settings):
    session = PlainSession.resume(parent, **settings)
    session()
    return weights_of(session)


def weights_of(session):
    return {name: value.clone() for name, value in session.network.state_dict().items()}


def run_dir_in(parent):
    (run_dir,) = parent.iterdir()
    return run_dir


# What is refused


REFUSED = {
    "parts": ({"mini_batch_parts": 2}, "mini_batch_parts is 2, so 3 processes can't share .* at least 3"),
    "samples": (
        {"mini_batch_size": 2},
        "mini_batch_size is 2, so a mini-batch can't be computed in 3 parts, of wh",
    ),
    "validation": ({"validation_mini_batch_size": 1}, "validation_mini_batch_size is 1, so a mini-batch can't be "),
}


def refused(index, parent, settings, message):
    with pytest.raises(ConfigError, match=message):
        session_with(parent, kind=PlainSession, **settings)
    assert not parent.exists()
    return weights_of(session_with(parent, kind=PlainSession, mini_batch_size=4))


@pytest.mark.parametrize("what", REFUSED)
def test_parts_that_cannot_be_shared_are_refused_before_a_file_is_made(tmp_path, what):
    assert len(several.values_of(3, refused, tmp_path / "runs", *REFUSED[what])) == 3


def on_one_gpu(index, parent):
    with pytest.raises(ConfigError, match=r"'cuda:0' is one device, and 2 processes .* pass 'cuda', with which each"):
        PlainSession(config_with(device_name="cuda:0"), parent)


def test_one_device_for_several_processes_is_refused(tmp_path):
    several.values_of(2, on_one_gpu, tmp_path)


def blind(index, parent):
    if index == 1:
        FollowedRunDirectory.is_visible = lambda directory: False
    with pytest.raises(RunDirectoryError, match=r"process 1 on .* can't see it\. To fix, pass a runs_parent_dir on"):
        session_with(parent, kind=PlainSession)


def test_a_process_that_cannot_see_the_run_directory_is_named_on_each(tmp_path):
    several.values_of(3, blind, tmp_path)
    assert list(tmp_path.iterdir()) == []


def makes_a_session_on_one(index, parent):
    if index == 0:
        session_with(parent, kind=PlainSession)
    else:
        join()


def test_a_session_on_one_process_only_is_an_error_once_the_other_has_ended(tmp_path):
    first, second = several.run(2, makes_a_session_on_one, tmp_path)
    assert second.error is None
    assert "ProcessLostError: Process 0 of 2" in first.error
    assert list(tmp_path.iterdir()) == []


# What the main process decides


class OddError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def decides(index):
    def fail(error):
        raise error

    processes = join()
    caught = []
    for error in (ValueError("no"), RunDirectoryError("none"), OddError("one", "two")):
        with pytest.raises(Exception) as raised:
            tell_result(processes, lambda error=error: fail(error), "a decision")
        caught.append(f"{type(raised.value).__name__}: {raised.value}")
    return caught, tell_result(processes, lambda: index, "a decision")


def test_a_decision_of_the_main_process_and_its_error_reach_each_process():
    first, second = several.values_of(2, decides)
    assert first == (["ValueError: no", "RunDirectoryError: none", "OddError: one and two"], 0)
    assert second[0][:2] == first[0][:2]
    assert second[0][2].startswith("ProcessError: process 0 failed: OddError: one and two")
    assert second[1] == 0


def test_a_process_alone_decides_for_itself():
    assert tell_result(SingleProcess(), lambda: 3, "a decision") == 3


def resume_or_begin(index, parent):
    os.chdir(parent / f"folder of process {index}")
    try:
        session = PlainSession.resume()
    except RunDirectoryError:
        session = session_with(None, kind=PlainSession)
    session()
    return session.run_dir, session.run_dir == str(Path("runs", Path(session.run_dir).name).absolute())


def test_the_main_process_chooses_the_run_to_resume(tmp_path):
    for index in range(2):
        (tmp_path / f"folder of process {index}").mkdir()
    first = several.values_of(2, resume_or_begin, tmp_path)
    assert first == several.values_of(2, resume_or_begin, tmp_path)
    assert first[0][0] == first[1][0]
    assert [is_in_its_own for _, is_in_its_own in first] == [True, False]


def resume_none(index, parent):
    with pytest.raises(RunDirectoryError, match="There is no run directory"):
        PlainSession.resume(parent, "missing")
    with pytest.raises(RunDirectoryError, match="There is no run directory"):
        PlainSession(config_with(), parent, source_run_dir_tag="missing")


def test_a_run_that_is_missing_is_the_same_error_on_each_process(tmp_path):
    several.values_of(2, resume_none, tmp_path)


class SetupFails:
    @hookimpl
    def on_setup_start(self, processes):
        if processes.is_main:
            raise ValueError("a fault in the setup")


class FaultySetup(PlainSession):
    def default_hooks(self):
        return [*super().default_hooks(), SetupFails()]


def set_up_with_a_fault(index, parent):
    with pytest.raises(ValueError, match="a fault in the setup"):
        session_with(parent, kind=FaultySetup)


def test_an_error_of_the_setup_on_the_main_process_is_raised_on_each_and_leaves_nothing(tmp_path):
    several.values_of(2, set_up_with_a_fault, tmp_path)
    assert list(tmp_path.iterdir()) == []


def locked(index, parent):
    with pytest.raises(RunDirectoryLockedError, match="Another session"):
        PlainSession.resume(parent)


def test_a_run_that_another_session_has_locked_is_the_same_error_on_each_process(tmp_path):
    held = session_with(tmp_path, kind=PlainSession, mini_batch_parts=2)
    several.values_of(2, locked, tmp_path)
    held.close()


# The number of parts of a run


def test_a_resumed_run_keeps_its_number_of_parts_on_any_number_of_processes(tmp_path):
    whole, *_ = several.values_of(2, train, tmp_path / "whole")
    several.values_of(2, train, tmp_path / "stopped", None, 3)
    assert json.loads((run_dir_in(tmp_path / "stopped") / "states/parts.json").read_text()) == {"mini_batch_parts": 2}
    shutil.copytree(tmp_path / "stopped", tmp_path / "copy")
    assert different_values(resume(0, tmp_path / "stopped"), whole) == []
    several.values_of(1, train, tmp_path / "one", {"mini_batch_parts": 2}, 3)
    for resumed in (tmp_path / "one", tmp_path / "copy"):
        for weights in several.values_of(2, resume, resumed):
            assert different_values(weights, whole) == []


def resume_on_too_many(index, parent):
    tag = run_dir_in(parent).name
    config = config_with()
    config["network"] = {"architecture": "PlainNetwork", "dropout": 0.0}
    with pytest.raises(ConfigError, match=r"computes each mini-batch in 1 part, as it was begun, so 2 processes can't"):
        PlainSession.resume(parent)
    session = PlainSession.resume(parent, allow_config_changes=True)
    session()
    config["session"]["mini_batch_parts"] = 4
    message = r"mini_batch_parts is 4, and the run .* in 2 parts, so this would be another experiment\. To fix, pass 2"
    with pytest.raises(ConfigError, match=message):
        PlainSession(config, parent, create_run_dir_afresh=False, source_run_dir_tag=tag)


def test_a_run_of_one_process_is_not_resumed_on_more_unless_changes_are_allowed(tmp_path):
    train(0, tmp_path, None, 3)
    several.values_of(2, resume_on_too_many, tmp_path)


# One session after another


def close_and_call(index, parent):
    with session_with(parent / "closed", kind=PlainSession) as session:
        run_dir = Path(session.run_dir)
    session.processes.tell(None)
    was_removed = not run_dir.exists()
    session.processes.tell(None)
    session()  # makes it again
    with pytest.raises(HookError):
        session.register(object())
    return was_removed, run_dir.exists()


def test_a_session_that_is_closed_before_its_call_removes_its_directory_and_makes_it_again(tmp_path):
    assert several.values_of(2, close_and_call, tmp_path) == [(True, True)] * 2


def slip(index, parent):
    session = session_with(parent, kind=PlainSession)
    with pytest.raises(HookError):
        session.register(object())
    session.processes.tell(None)
    was_removed = not Path(session.run_dir).exists()
    session.processes.tell(None)
    return was_removed, session().epochs_done


def test_a_slip_in_the_hooks_leaves_no_directory_and_the_session_can_be_called(tmp_path):
    assert several.values_of(2, slip, tmp_path) == [(True, 2)] * 2


def train_in_turn(index, parent):
    first = session_with(parent / "first", kind=PlainSession)
    stop = first.register(StopAt(3))
    unused = session_with(parent / "unused", kind=PlainSession)
    first()
    second = session_with(parent / "second", kind=PlainSession)
    second()
    first.unregister(stop)
    first()
    at_the_end = different_values(weights_of(first), weights_of(second))
    from_first = PlainSession(
        {**config_with(), "network": {"architecture": "PlainNetwork", "dropout": 0.0}},
        parent / "first",
        source_run_dir_tag=Path(first.run_dir).name,
    )
    started = weights_of(from_first)
    from_first()
    first.load_best_network()
    best = torch.load(Path(first.run_dir, "network.pth"), weights_only=True)
    verified = first.verify(replay=2)
    return (
        at_the_end,
        different_values(started, best),
        verified.is_good and verified.replay.iterations,
        Path(unused.run_dir).is_dir(),
    )


def test_sessions_of_one_program_train_after_each_other(tmp_path):
    for of_first, start, replayed, is_there in several.values_of(2, train_in_turn, tmp_path):
        assert (start, replayed, is_there) == ([], 2, True)
        assert of_first == []


# What is recorded and said


def test_it_is_recorded_and_shown_which_processes_trained_which_iterations(tmp_path, capsys):
    several.values_of(3, train, tmp_path, {"mini_batch_parts": 4}, 3)
    several.values_of(2, resume, tmp_path)
    run_dir = run_dir_in(tmp_path)
    environments = [json.loads(path.read_text()) for path in sorted(run_dir.glob("environment*.json"))]
    machine = {"host": environments[0]["hostname"], "first": 0, "devices": ["cpu"], "thread_count": 1}
    assert [one["processes"] for one in environments] == [[{**machine, "count": 3}], [{**machine, "count": 2}]]
    assert [one.get("iterations_before") for one in environments] == [None, 3]
    assert main(["show", str(run_dir)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"processes 3 on {machine['host']} (cpu; threads of each: 1)" in shown
    assert f", after 3 iterations, on 2 on {machine['host']} (cpu; threads of each: 1): the same config" in shown


def train_with_threads(index, parent, resumes, threads):
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("torchbase").addHandler(handler)
    torch.set_num_threads(threads[index])
    session = PlainSession.resume(parent) if resumes else session_with(parent, StopAt(3), kind=PlainSession)
    session()
    return [message for message in messages if "threads" in message]


def test_processes_with_different_numbers_of_threads_are_said_once_by_the_main_process(tmp_path):
    ((message,), others) = several.values_of(2, train_with_threads, tmp_path, False, (1, 2))
    assert others == []
    assert "The processes differ in their threads of torch: process 0, on " in message
    assert "OMP_NUM_THREADS" in message


def test_another_number_of_threads_is_said_when_a_run_is_resumed(tmp_path):
    assert several.values_of(2, train_with_threads, tmp_path, False, (1, 1)) == [[], []]
    (message,), others = several.values_of(2, train_with_threads, tmp_path, True, (2, 2))
    assert others == []
    assert "The run continues with another number of threads of torch, 2 in place of 1, so the last bits" in message
    assert several.values_of(2, train_with_threads, tmp_path, True, (2, 2)) == [[], []]


def first_line(index, parent):
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("torchbase").addHandler(handler)
    logging.getLogger("torchbase").setLevel(logging.INFO)
    train(index, parent)
    return [line for line in lines if " epochs on " in line]


def test_the_console_says_how_many_processes_train(tmp_path):
    ((line,), others) = several.values_of(2, first_line, tmp_path)
    assert line.startswith("2 epochs on 2 processes (cpu), 41 parameters in ")
    assert others == []
