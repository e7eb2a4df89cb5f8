"""Signals to one or all of several processes: all stop after the same iteration, and a checkpoint is there."""

import os
import signal
from itertools import product

import pytest
import several
from divided import in_suite
from every_technique import PlainSession, session_with
from tiny import TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.checkpoints.listing import newest_progress
from torchbase.distributed.processes import SingleProcess
from torchbase.files.bitwise import different_values
from torchbase.hooks import Interruption


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory):
    """Imports what a run needs before processes are forked."""
    TinySession(config_with(num_epochs=1), tmp_path_factory.mktemp("imported"))()


class Signals:
    """Sends signals to its process at an event of some phase, after some training iterations, on some processes."""

    def __init__(self, event, phase_name, iterations, numbers, processes):
        self.numbers = list(numbers)

        def send(run, phase=None):
            here = phase is None or phase.name == phase_name
            if here and run.processes.index in processes and run.progress.iterations >= iterations:
                while self.numbers:
                    os.kill(os.getpid(), self.numbers.pop())

        def send_in_phase(run, phase):
            send(run, phase)

        setattr(self, event, hookimpl(send_in_phase if phase_name else send))


def train(index, parent, *hooks):
    session = session_with(parent, *hooks, kind=PlainSession, mini_batch_parts=4, num_epochs=3)
    session()
    return {name: value.clone() for name, value in session.network.state_dict().items()}


def train_with_signals(index, parent, *arguments):
    return train(index, parent, Signals(*arguments))


def resume(index, parent):
    session = PlainSession.resume(parent)
    session()
    return {name: value.clone() for name, value in session.network.state_dict().items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights after an uninterrupted run of one process."""
    return train(0, tmp_path_factory.mktemp("whole"))


# The event, the phase, the training iterations before, and those in the checkpoint.
MOMENTS = {
    "an iteration": ("on_gradients_ready", None, 6, 7),
    "the first iteration": ("on_gradients_ready", None, 0, 1),
    "a validation": ("on_iteration_start", "validation-valid", 5, 5),
    "between phases": ("on_phase_end", "training", 5, 5),
    "between epochs": ("on_epoch_end", None, 5, 5),
    "the last iteration": ("on_gradients_ready", None, 14, 15),
    "the last validation": ("on_iteration_end", "validation-demo", 15, 15),
    "the last epoch": ("on_epoch_end", None, 15, 15),
    "the end": ("on_run_end", None, 15, 15),
}


def check_resumes(parent, whole, iterations):
    (run_dir,) = parent.iterdir()
    assert newest_progress(run_dir / "states")[1] == iterations
    assert not (run_dir / "errors").exists()
    assert different_values(resume(0, parent), whole) == []


@pytest.mark.parametrize(
    ("moment", "process"),
    in_suite(list(product(MOMENTS, (0, 1))), *((moment, 1) for moment in MOMENTS), ("an iteration", 0), ("the end", 0)),
)
def test_a_signal_to_one_process_stops_all_after_the_same_iteration(tmp_path, whole, moment, process):
    event, phase, before, iterations = MOMENTS[moment]
    ended = several.run(2, train_with_signals, tmp_path, event, phase, before, [signal.SIGTERM], {process})
    assert [one.exit_code for one in ended] == [-signal.SIGTERM] * 2
    check_resumes(tmp_path, whole, iterations)


def test_signals_that_each_process_receives_twice_stop_all_once(tmp_path, whole):
    arguments = ("on_gradients_ready", None, 6, [signal.SIGTERM] * 3, {0, 1, 2})
    ended = several.run(3, train_with_signals, tmp_path, *arguments)
    assert [one.exit_code for one in ended] == [-signal.SIGTERM] * 3
    check_resumes(tmp_path, whole, 7)


def test_processes_that_receive_other_signals_end_by_their_own(tmp_path, whole):
    ended = several.run(2, train_with_one_each, tmp_path)
    assert ended[0].exit_code == -signal.SIGTERM
    assert "KeyboardInterrupt: SIGINT ended the run. Its state is saved in" in ended[1].error
    check_resumes(tmp_path, whole, 7)


def train_with_one_each(index, parent):
    number = (signal.SIGTERM, signal.SIGINT)[index]
    return train_with_signals(index, parent, "on_gradients_ready", None, 6, [number], {0, 1})


def test_ctrl_c_says_on_each_process_what_is_saved_and_how_to_continue(tmp_path, whole):
    ended = several.run(3, train_with_signals, tmp_path, "on_gradients_ready", None, 6, [signal.SIGINT] * 2, {2})
    (run_dir,) = tmp_path.iterdir()
    for one in ended:
        last = one.error.splitlines()[-1]
        assert last.startswith(f"KeyboardInterrupt: SIGINT ended the run. Its state is saved in {run_dir}. To continue")
        assert last.endswith(f"PlainSession.resume({str(tmp_path)!r}, {run_dir.name!r})()")
    check_resumes(tmp_path, whole, 7)


def train_with_a_handler(index, parent):
    received = []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    train_with_signals(index, parent, "on_gradients_ready", None, 6, [signal.SIGTERM] * 2, {1})
    return received


def test_the_handler_of_the_program_is_called_on_each_process_at_the_end(tmp_path):
    assert several.values_of(2, train_with_a_handler, tmp_path) == [[signal.SIGTERM]] * 2


def test_a_run_is_resumed_on_another_number_of_processes_each_time(tmp_path, whole):
    for count, before in ((3, 2), (1, 4), (4, 7), (2, 9)):
        arguments = ("on_gradients_ready", None, before, [signal.SIGTERM], {count - 1})
        ended = several.run(count, resume_with_signals, tmp_path, before > 2, *arguments)
        assert [one.exit_code for one in ended] == [-signal.SIGTERM] * count, ended
    check_resumes(tmp_path, whole, 10)


def resume_with_signals(index, parent, resumes, *arguments):
    if not resumes:
        return train_with_signals(index, parent, *arguments)
    session = PlainSession.resume(parent)
    session.register(Signals(*arguments))
    return session()


def train_preempted(index, parent):
    signals = Signals("on_gradients_ready", None, 6, [signal.SIGTERM, signal.SIGUSR1], {1})
    settings = {"mini_batch_parts": 4, "num_epochs": 3, "preemption_signal": "SIGUSR1"}
    session_with(parent, signals, kind=PlainSession, **settings)()


def test_all_processes_ask_to_be_started_again_and_none_records_an_error(tmp_path, whole):
    ended = several.run(3, train_preempted, tmp_path)
    assert ["OrderlyExit: 75" in one.error for one in ended] == [True] * 3
    check_resumes(tmp_path, whole, 7)


class LateSignal(SingleProcess):
    """Two processes, of which this one receives a signal after it has sent that it had none."""

    count = 2

    def gather(self, value, purpose="a value"):
        if purpose == "the end of the run":
            os.kill(os.getpid(), signal.SIGINT)
        elif not purpose.startswith("the decision "):
            pytest.fail(f"the other process doesn't gather {purpose}")
        return [value, None]


def test_a_signal_after_the_last_decision_ends_its_process_alone():
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1, processes=LateSignal())
    with pytest.raises(KeyboardInterrupt, match="SIGINT ended the run"):
        Engine(hooks=[Interruption(), DoesNothing()]).run(run)


class DoesNothing:
    shares_gradients = True

    @hookimpl
    def run_iteration(self):
        pass


class StoppedInSetup(PlainSession):
    def init_datasets(self):
        if self.processes.index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().init_datasets()


def train_stopped_in_setup(index, parent):
    session_with(parent, kind=StoppedInSetup)()


def test_a_signal_before_training_ends_a_process_at_once_and_the_others_after_it(tmp_path):
    first, second = several.run(2, train_stopped_in_setup, tmp_path)
    assert second.exit_code == -signal.SIGTERM
    assert "ProcessLostError" in first.error
