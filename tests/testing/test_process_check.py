"""Hooks that follow the rules of several processes, and hooks that each break one of them."""

import os
import random
import threading
from functools import partial
from pathlib import Path

import hooks_to_check as hooks
import numpy as np
import pytest
import torch
from every_technique import RecordingTrial
from torch.optim.lr_scheduler import ExponentialLR

from torchbase import hookimpl
from torchbase import hooks as ready
from torchbase.checkpoints.run_state import Stateful
from torchbase.engine.plugins import is_for_main_process
from torchbase.errors import HookCheckError
from torchbase.testing import HookTrial, NoisySession, check_processes, tiny_config


def trial_of(make_hook, epochs=1):
    return HookTrial(make_hook, config=tiny_config(num_epochs=epochs))


def message_of(make_hook, epochs=1):
    """The message of a check that fails, in one line."""
    with pytest.raises(HookCheckError) as raised:
        check_processes(trial_of(make_hook, epochs))
    return " ".join(str(raised.value).split())


class StatesOfAll:
    """Has the states of all hooks that each process calls, so that these are compared."""

    def __init__(self):
        self.hooks = {}

    @hookimpl
    def on_run_start(self, run):
        self.hooks = {
            name: hook
            for name, hook in run.hooks.items()
            if isinstance(hook, Stateful) and hook is not self and not is_for_main_process(hook)
        }

    def state_dict(self):
        return {name: hook.state_dict() for name, hook in self.hooks.items()}

    def load_state_dict(self, state):
        pass


def per_epoch(optimizer):
    return ExponentialLR(optimizer, 0.5)


class ReadySession(NoisySession):
    """Registers the hooks of torchbase."""

    def forward_pass(self, mini_batch):
        return {**super().forward_pass(mini_batch), "picture": mini_batch["x"][:, None, None]}

    def default_hooks(self):
        return [
            ready.DeterministicAlgorithms(),
            *super().default_hooks(),
            ready.ActivationCheckpointing("layers"),
            ready.GradientAccumulation(2),
            ready.ExponentialMovingAverage(0.8, use_buffers=True),
            ready.GradientClipping(norm=0.5),
            ready.EarlyStopping("loss", "training", patience=2, min_delta=0.2),
            ready.MixedPrecision("fp16"),
            ready.Freeze("layers.0.*"),
            ready.LogGradients("2it"),
            ready.LogSamples(6, ["picture"]),
            ready.LearningRateSchedule(per_epoch, "1it"),
            ready.TimeLimit("1000s"),
            ready.HookTimes(),
            ready.Throughput("2it"),
            ready.MemoryMonitor("2it"),
            ready.KeepBest(2),
            ready.Unfreeze("layers.0.weight", at="1ep"),
            ready.Fingerprint("2it"),
            ready.LogWeights("3it"),
            ready.CsvLog(),
            ready.NetworkGraph(),
            ready.Profile(range(2, 4)),
            ready.Pruning(RecordingTrial()),
            ready.RetryOnOutOfMemory(),
        ]


def test_all_hooks_of_torchbase_follow_the_rules(tmp_path):
    config = tiny_config(num_epochs=2, mini_batch_size=12, mini_batch_parts=3)
    config["data"] = {"training_samples": 42, "validation_samples": 13}
    text = check_processes(HookTrial(StatesOfAll, ReadySession, config))
    assert text.startswith(
        "2 processes end bit for bit like one process with the same 3 parts of each mini-batch, and only the main "
        "process writes files"
    )
    left_out = {"Console", "MLflow", "Wandb"}  # they write to the terminal and to servers
    left_out |= {"NanSkip", "ProcessErrors"}  # one replaces NanGuard, the other is registered on several processes only
    left_out |= {"ShardedTraining"}  # it is registered where several processes share a network out
    left_out |= {"JsonLines", "Compile"}  # one names pictures by the time, NetworkGraph can't record what is compiled
    left_out |= {"ClosureStep", "SharpnessAwareMinimization"}  # they refuse RetryOnOutOfMemory
    session = HookTrial(StatesOfAll, ReadySession, config).session(tmp_path, [])
    assert {type(hook).__name__ for hook in session.hooks.values()} & {*ready.__all__} == {*ready.__all__} - left_out


class CountsPositives:
    """Adds up what each process counts, and writes on the main process."""

    def __init__(self):
        self.count, self.folder = 0, None

    @hookimpl
    def on_setup_start(self, run_directory):
        self.folder = run_directory.path

    @hookimpl
    def on_loss_computed(self, phase):
        self.count += int((phase.outputs["target"] > 0).sum())

    @hookimpl
    def on_epoch_end(self, run):
        total = sum(run.processes.gather(self.count, "the positives"))
        run.log("positives", total)
        decision = run.processes.tell(random.SystemRandom().random() < 2, "the decision")
        for group in run.optimizer.param_groups:
            group["lr"] /= 1 + decision
        if run.processes.is_main:
            self.folder.joinpath("positives.txt").write_text(str(total))


class StopsOne:
    @hookimpl
    def on_iteration_end(self, run, phase):
        if run.processes.index == run.processes.count - 1 and phase.progress.iterations == 3:
            run.request_stop("enough")


@pytest.mark.parametrize("make_hook", [CountsPositives, StopsOne, hooks.IsolatesItsDraws])
def test_a_hook_that_follows_the_rules_passes(make_hook):
    assert "Not compared" not in check_processes(trial_of(make_hook), 3)


def test_what_differs_each_time_is_not_compared():
    text = check_processes(trial_of(hooks.LogsTime))
    assert ". Not compared, since two runs on one process differ in it: averages (training/seconds, " in text
    assert "the hook's state (seconds)" in text


# Files


class WritesEverywhere:
    def __init__(self):
        self.folder = None

    @hookimpl
    def on_setup_start(self, run_directory):
        self.folder = run_directory.path


class AppendsEverywhere(WritesEverywhere):
    @hookimpl
    def on_epoch_end(self, run):
        with (self.folder / "epochs.txt").open("a") as file:
            file.write(f"{run.epoch}\n")


class SavesEverywhere(WritesEverywhere):
    @hookimpl
    def on_best_epoch(self, run):
        torch.save(run.network.state_dict(), self.folder / "best.pt")


class WritesInAThread(WritesEverywhere):
    @hookimpl
    def on_run_end(self):
        thread = threading.Thread(target=(self.folder / "done.txt").write_text, args=["done"])
        thread.start()
        thread.join()


class WritesElsewhere:
    def __init__(self, folder):
        self.folder = folder

    @hookimpl
    def on_run_end(self, run):
        np.save(self.folder / "one.npy", np.zeros(3))
        np.save(self.folder / f"of-{run.processes.index}.npy", np.zeros(3))


@pytest.mark.parametrize(
    ("make_hook", "file"),
    [
        (AppendsEverywhere, "epochs.txt (in on_epoch_end, process 1)"),
        pytest.param(SavesEverywhere, "best.pt (in on_best_epoch, process 1)", marks=pytest.mark.thorough),
        (WritesInAThread, "done.txt (outside of its events, process 1)"),
    ],
)
def test_files_of_the_run_that_each_process_writes_are_found(make_hook, file):
    message = message_of(make_hook)
    assert message.startswith(f"It writes files on other processes than the main one: {file}. All processes share")
    assert "To fix, set the attribute main_process_only = True in the class of the hook" in message
    assert "write within `if run.processes.is_main:`" in message


def test_a_file_elsewhere_that_each_process_writes_is_found(tmp_path):
    message = message_of(partial(WritesElsewhere, tmp_path))
    assert f"main one: {tmp_path / 'one.npy'} (in on_run_end, process 1). All" in message
    assert "of-1.npy" not in message


def test_a_hook_that_is_called_on_the_main_process_only_may_write():
    class Fixed(AppendsEverywhere):
        main_process_only = True

    check_processes(trial_of(Fixed))


def test_a_hook_that_needs_the_run_directory_is_told_why_it_has_none():
    message = message_of(hooks.AppendsToAFile)
    assert message.startswith("Process 1 failed in on_iteration_end of the hook: AttributeError: 'NoneType' object has")
    assert "run.run_directory is None, log_… events do nothing" in message
    assert "main_process_only = True" in message


# What differs between processes


class ChangesOneRate:
    @hookimpl
    def on_epoch_end(self, run):
        if run.processes.is_main:
            for group in run.optimizer.param_groups:
                group["lr"] /= 2


class ShrinksOneNetwork:
    @hookimpl
    def on_gradients_ready(self, run):
        with torch.no_grad():
            next(run.network.parameters()).mul_(1 - 0.01 * run.processes.index)


class StepsByOutputs:
    @hookimpl
    def should_step_optimizer(self, run):
        return float(run.training.outputs["output"][0]) > 0


@pytest.mark.parametrize(
    ("make_hook", "where"),
    [
        pytest.param(
            ChangesOneRate,
            "at on_epoch_end of training iteration 5, the differences are optimizer (param_groups.0.lr).",
            marks=pytest.mark.thorough,
        ),
        (ShrinksOneNetwork, "at on_gradients_ready of training iteration 1, the differences are network (layers.0.w"),
        (StepsByOutputs, "There the hook implements should_step_optimizer."),
    ],
)
def test_a_training_that_differs_between_processes_is_found(make_hook, where):
    message = message_of(make_hook, epochs=2)
    assert message.startswith("Process 1 diverges from the main process after on_")
    assert where in message
    assert "It changes the training in another way on each process." in message
    assert "run.processes.tell(decision); or combine the values of all, run.processes.gather(value)" in message


class LogsItsOutputs:
    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.outputs:
            run.log("mean", phase.outputs["output"].mean())


def test_logged_values_that_differ_are_found():
    message = message_of(LogsItsOutputs)
    assert "on_iteration_end of training iteration 1, the differences are values (mean). There the hook imp" in message
    assert "It logs other values on each process." in message
    assert "phase.outputs, phase.parts, and what run_forward" in message
    assert "run.processes.gather(value)" in message


def test_a_hook_that_is_called_on_the_main_process_only_must_not_log():
    class Logs:
        main_process_only = True

        @hookimpl
        def on_epoch_end(self, run):
            for group in run.optimizer.param_groups:
                group["lr"] /= 2

    message = message_of(Logs)
    assert "Its attribute main_process_only is True, so the other processes don't call it" in message
    assert "To fix, remove the attribute" in message


class CountsItsParts:
    def __init__(self):
        self.parts = 0

    @hookimpl
    def on_loss_computed(self):
        self.parts += 1

    def state_dict(self):
        return {"parts": self.parts}

    def load_state_dict(self, state):
        self.parts = state["parts"]


def test_a_state_that_differs_is_found():
    message = message_of(CountsItsParts)
    assert message.startswith(
        "Process 1 ends differently from the main process; the differences are the hook's state (parts). A checkpoint "
        "saves the state of the main process"
    )
    assert "run.processes.gather(value) or run.processes.tell(value)" in message


# Communication


class GathersOnOne:
    @hookimpl
    def on_iteration_end(self, run):
        if run.processes.is_main:
            run.processes.gather(1)


class TellsOnOne:
    @hookimpl
    def on_run_end(self, run):
        if not run.processes.is_main:
            run.processes.tell(1, "the end")


class GathersInEachPart:
    @hookimpl(wrapper=True)
    def run_forward(self, run):
        run.processes.gather(1, "a part")
        return (yield)


class StopsOneByItself:
    @hookimpl
    def on_iteration_end(self, run):
        if run.processes.is_main:
            run.stop_reason = "enough"


@pytest.mark.parametrize(
    ("make_hook", "first", "second"),
    [
        (
            GathersOnOne,
            "process 0 calls gather or tell for a value, in on_iteration_end of the hook",
            "process 1 calls gather or tell for the decision to stop, outside of the hook",
        ),
        pytest.param(
            TellsOnOne,
            "outside of the hook",
            "process 1 calls gather or tell for the end, in on_run_end of the hook",
            marks=pytest.mark.thorough,
        ),
        (
            GathersInEachPart,
            "process 0 calls gather or tell for a part, in run_forward of the hook",
            "process 1 calls gather_and_reduce for an iteration of training, outside of the hook",
        ),
        (StopsOneByItself, "process 0 calls", "process 1 calls gather or tell for the decision to stop"),
    ],
)
def test_communication_on_some_processes_only_is_found(make_hook, first, second):
    message = message_of(make_hook)
    assert message.startswith("The processes are at different places of the program: process 0 ")
    assert first in message
    assert second in message
    assert "To fix, move the call out of `if run.processes.is_main:`" in message
    assert "With run.processes.tell(value), the main process decides for all." in message
    assert "to stop, use run.request_stop(reason)" in message


# The number of processes


class SharesTheRate:
    @hookimpl
    def on_epoch_start(self, run):
        for group in run.optimizer.param_groups:
            group["lr"] = 0.05 / run.processes.count


def test_a_training_that_depends_on_the_number_of_processes_is_found():
    message = message_of(SharesTheRate)
    assert message.startswith(
        "The result depends on the number of processes: a run on 2 diverges from one on 1 from the start: at "
        "on_iteration_start of training iteration 1, the differences are optimizer (param_groups.0.lr). There the hook "
        "implements on_epoch_start."
    )
    assert "To fix, use run.processes.index and run.processes.count only to share out work" in message


class ShowsItsOutputs:
    main_process_only = True

    @hookimpl
    def on_iteration_end(self, run, phase):
        scalars = {f"{phase.name}/rows": float(len(phase.outputs["output"]))}
        run.call.log_scalars(run=run, scalars=scalars, step=phase.progress.iterations)


def test_a_curve_that_depends_on_the_number_of_processes_is_found():
    message = message_of(ShowsItsOutputs)
    assert "a run on 2 ends differently from one on 1; the differences are scalars (training/rows" in message
    assert "run.processes.gather(value), in an order that doesn't depend on their number" in message


# Random numbers


class DrawsOnOne:
    @hookimpl
    def on_gradients_ready(self, run):
        if run.processes.is_main:
            torch.rand(1)


class DrawsOnOneBetween:
    @hookimpl
    def on_epoch_end(self, run):
        if run.processes.is_main:
            random.random()


class DrawsInItsParts:
    @hookimpl(wrapper=True)
    def run_forward(self, run):
        if run.processes.is_main:
            torch.rand(1)
        return (yield)


@pytest.mark.parametrize(
    ("make_hook", "where"),
    [
        (DrawsOnOne, "at on_gradients_ready of training iteration 1, the differences are random streams (torch)."),
        pytest.param(
            DrawsOnOneBetween,
            "at on_epoch_end of training iteration 5, the differences are random streams (random).",
            marks=pytest.mark.thorough,
        ),
        (
            DrawsInItsParts,
            "at on_loss_computed of training iteration 1, part 2, the differences are loss, random streams (torch). "
            "There the hook implements run_forward.",
        ),
    ],
)
def test_draws_that_depend_on_the_process_are_found(make_hook, where):
    message = message_of(make_hook)
    assert where in message
    assert "It draws from the global random streams in another way on each process" in message
    assert "with torchbase.isolate_rng(run.device):" in message
    assert "It changes the training" not in message


# What comes before the comparison


class RefusesParts:
    @hookimpl
    def run_part(self):
        raise OSError("not in parts")


def test_a_hook_that_fails_with_parts_on_one_process_is_an_error():
    message = message_of(RefusesParts)
    assert "with session.mini_batch_parts = 3 a run on one process ended with OSError: not in parts" in message


def test_a_hook_that_does_not_repeat_itself_can_not_be_compared():
    message = message_of(hooks.DrawsWithoutSeed)
    assert message.startswith("Two runs on one process differ")
    assert "let the hook pass check_repetition first. The differences are " in message


def test_a_process_that_is_killed_is_named():
    class Killed:
        @hookimpl
        def on_epoch_end(self, run):
            if not run.processes.is_main:
                os.kill(os.getpid(), 9)

    assert message_of(Killed).startswith("Process 1 failed: it ended with exit code -9.")


def test_one_process_is_too_few():
    with pytest.raises(HookCheckError, match="expects a number of processes from 2 on, but got 1"):
        check_processes(trial_of(hooks.GradientNorms), 1)


def test_systems_that_can_not_fork_are_named(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(HookCheckError, match="can't be tried on several processes, since a process that uses torch"):
        check_processes(trial_of(hooks.GradientNorms))


def test_the_program_is_left_as_it_was():
    assert HookTrial(hooks.GradientNorms).unbroken.events  # at its first import, torch sets an environment variable
    before = Path.cwd(), dict(os.environ), torch.get_num_threads(), torch.get_rng_state().sum()
    check_processes(trial_of(hooks.GradientNorms))
    assert (Path.cwd(), dict(os.environ), torch.get_num_threads(), torch.get_rng_state().sum()) == before
