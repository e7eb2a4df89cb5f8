"""The reports on hooks that follow the rules, and on hooks that break one rule."""

import functools
import re

import hooks_to_check as hooks
import pytest
import torch

from torchbase import hookimpl
from torchbase.errors import HookCheckError, TorchbaseError
from torchbase.testing import (
    HookTrial,
    TinySession,
    check_hook,
    check_kill,
    check_neutrality,
    check_registration,
    check_repetition,
    check_state,
    check_stops,
    tiny_config,
)


def message_of(check, make_hook):
    """The message of a check that fails, in one line."""
    with pytest.raises(HookCheckError) as raised:
        check(HookTrial(make_hook))
    return " ".join(str(raised.value).split())


def test_a_hook_that_follows_the_rules_gets_a_report(monkeypatch):
    monkeypatch.setattr("torchbase.testing.overhead.ITERATIONS", 20)
    report = check_hook(functools.partial(hooks.GradientNorms, decay=0.5), observes=True)
    assert report.is_good
    header, *lines = str(report).splitlines()
    assert header == "The hook 'gradient_norms' in NoisySession: 5 checks passed"
    names = [line.split()[1] for line in lines if line.startswith("  ok ")]
    assert names == ["registers", "state", "observes", "stopped", "killed"]
    text = " ".join(" ".join(lines).split())
    assert "it implements on_gradients_ready" in text
    assert "a checkpoint saved and restored mean" in text
    assert "9 runs ended like the uninterrupted run; stopped after training iteration 1 3 5 6 8 10," in text
    assert "validation-valid iteration 2 3, validation-demo iteration 2" in text
    assert "a run was killed in training iteration 9 and ended like the uninterrupted run" in text
    assert "with a copy" not in text
    assert re.search(r"cost [+-]\d+\.\d µs per iteration on top of \d+ µs", text)


@pytest.fixture(scope="module")
def report_on_a_count_without_state():
    class Local(hooks.CountsWithoutState):  # another process can't create it, which is faster
        name = "counts_without_state"

    with pytest.raises(AssertionError) as raised:
        check_hook(Local, observes=True)
    assert isinstance(raised.value, TorchbaseError)
    return str(raised.value)


def test_all_failed_checks_are_reported_at_once(report_on_a_count_without_state):
    report = report_on_a_count_without_state
    assert report.startswith("The hook 'counts_without_state' in NoisySession: 3 of 5 checks failed\n")
    assert re.findall(r"^  (\w+) +(\w+) ", report, re.MULTILINE) == [
        ("ok", "registers"),
        ("ok", "state"),
        ("FAILED", "observes"),
        ("FAILED", "stopped"),
        ("FAILED", "killed"),
    ]
    assert max(map(len, report.splitlines())) <= 110


def test_an_unsaved_count_that_changes_the_training_is_named(report_on_a_count_without_state):
    report = " ".join(report_on_a_count_without_state.split())
    assert "8 of 9 runs that were stopped and resumed ended differently from the uninterrupted run" in report
    assert "stopped after training iteration 1 3 5 6 8, validation-valid iteration 2 3," in report
    assert "at on_gradients_ready of training iteration 2, the differences are optimizer (param_groups.0.lr)." in report
    assert "It has no state_dict and load_state_dict, so its state is lost" in report
    assert "when a run is resumed: self.steps." in report
    assert "To fix, return it in state_dict(), and restore it in load_state_dict(state)." in report
    assert "A run that was killed in training iteration 9 and resumed ended differently" in report


def test_a_hook_that_draws_during_the_forward_pass_is_found():
    message = message_of(check_neutrality, hooks.DrawsBeforeForward)
    assert message.startswith("It should only observe, but a run with it ends differently from a run without it.")
    assert (
        "The runs diverge after on_iteration_start of training iteration 1: at on_loss_computed of training iteration "
        "1, the differences are loss, random streams (torch). There the hook implements run_forward." in message
    )
    assert "It draws from the global random streams within an iteration" in message
    assert "To fix, wrap its draws in `with torchbase.isolate_rng(run.device):`" in message


def test_weights_that_an_observer_changes_are_named_with_the_event():
    message = message_of(check_neutrality, hooks.ShrinksWeights)
    assert (
        "The runs diverge after on_gradients_ready of training iteration 1: at on_iteration_end of training iteration "
        "1, the differences are network (layers.0.weight, layers.0.bias and 3 more). There the hook implements "
        "on_iteration_end." in message
    )
    assert "It changes what it should only observe. To fix, work on a copy" in message


def test_a_draw_that_only_some_optimizers_notice_is_found_and_its_fix_works():
    message = message_of(check_neutrality, hooks.DrawsBeforeTheStep)
    assert "on_gradients_ready of training iteration 1, the differences are random streams (random, torch)" in message
    assert "bit for bit" in check_neutrality(HookTrial(hooks.IsolatesItsDraws))


def test_a_changed_mode_of_the_network_is_named():
    assert "It changes the mode of the network." in message_of(check_neutrality, hooks.LeavesEvaluationMode)


def test_an_observer_that_ends_the_run_is_found():
    message = message_of(check_neutrality, hooks.StopsTheRun)
    assert "Nothing that an iteration uses differs. To fix, check what the hook changes in `run`" in message
    assert "progress (epochs done)" in message


def test_a_state_that_changes_nothing_need_not_be_saved():
    trial = HookTrial(hooks.UnusedCount)
    assert check_state(trial) == "it has no state"
    assert check_stops(trial).startswith("9 runs ended like the uninterrupted run")


def test_a_validation_that_is_counted_twice_is_found():
    message = message_of(check_stops, hooks.SumsOverValidation)
    assert "3 of 9 runs" in message
    assert "stopped after validation-valid iteration 2 3, validation-demo iteration 2." in message
    assert "Its state ended differently: self.iterations." in message
    assert "An interrupted validation restarts from its first mini-batch." in message
    assert "the hook's state (iterations)" in message


@pytest.mark.parametrize(("make_hook", "name"), [(hooks.ForgetsHalf, "second"), (hooks.OverwritesLoadedState, "first")])
def test_a_value_that_is_not_restored_is_named(make_hook, name):
    message = message_of(check_state, make_hook)
    assert "resumed with another state than the saved one; the differences are " in message
    assert f"the differences are {name}. To fix, let load_state_dict" in message


def test_a_value_that_a_checkpoint_can_not_save_is_named():
    message = message_of(check_registration, hooks.SavesAnObject)
    assert "A run with the hook ended with RunDirectoryError: " in message
    assert "Tensors, numbers, strings, bytes and None can be saved" in message
    assert message.endswith("A checkpoint can't save 'noise' of its state_dict().")


def test_a_state_that_is_no_dictionary_is_an_error():
    message = message_of(check_registration, hooks.ReturnsAList)
    assert message.startswith("state_dict() returned list, but a dictionary is expected. To fix, ")


def test_a_state_that_is_missing_at_the_start_is_an_error():
    message = message_of(check_registration, hooks.HasNoStateAtFirst)
    assert message.startswith("state_dict() raised TypeError: unsupported operand type(s)")
    assert "To fix, let it return a state from on_run_start on" in message


def test_a_missing_method_of_a_state_is_an_error():
    message = message_of(check_state, hooks.CannotLoad)
    assert message == "It has state_dict but no load_state_dict, so its state isn't saved. To fix, add load_state_dict."


def test_a_hook_that_changes_the_training_has_to_do_so_in_the_same_way():
    assert check_repetition(HookTrial(hooks.HalvesTheRate)).startswith("two runs end bit for bit the same")
    message = message_of(check_repetition, hooks.DrawsWithoutSeed)
    assert "at on_gradients_ready of training iteration 1, the differences are gradients (layers.0.weight" in message
    assert "It depends on something that the seed doesn't determine" in message


def test_values_that_differ_each_time_are_reported_and_not_compared():
    trial = HookTrial(hooks.LogsTime)
    check_state(trial)
    check_neutrality(trial)
    text = check_stops(trial)
    assert "Not compared, since two uninterrupted runs differ in it: averages (training/seconds, " in text
    assert "the hook's state (seconds)" in text
    assert "loss" not in text


def test_a_file_that_is_not_truncated_is_found_by_a_kill_only():
    class Local(hooks.AppendsToAFile):
        pass

    trial = HookTrial(Local)
    check_stops(trial)
    with pytest.raises(HookCheckError, match=r"(?s)killed in training iteration 9.*files \(iterations.txt\)"):
        check_kill(trial)


def test_a_hook_that_another_process_can_not_create_is_checked_with_a_copy():
    class Local:
        @hookimpl
        def on_epoch_end(self):
            pass

    text = check_kill(HookTrial(Local))
    assert "like the uninterrupted run (in this process, with a copy of its files, since another process can't" in text


def test_after_a_failed_registration_nothing_else_is_checked():
    class Misspelt:
        @hookimpl
        def on_epoch_strat(self):
            pass

    with pytest.raises(HookCheckError, match=r"(?s)1 of 1 checks failed.*registers.*Did you\s+mean\s+'on_epoch_start'"):
        check_hook(Misspelt, observes=True)


def test_the_same_hook_twice_is_an_error():
    hook = hooks.GradientNorms()
    assert "make_hook returned the same hook twice" in message_of(check_registration, lambda: hook)


def test_an_error_of_a_hook_is_reported_with_its_event():
    message = message_of(check_registration, hooks.Raises)
    assert "A run with the hook ended with OSError: no such account; in the hook 'raises', at on_phase_end" in message


def test_a_hook_that_prevents_iterations_is_an_error():
    assert "no training iteration ended" in message_of(check_registration, hooks.SkipsPhases)


def test_a_hook_is_registered_when_the_session_is_created():
    trial = HookTrial(hooks.NeedsSetup)
    assert trial.unbroken.outcome["scalars"]["training/seed/epochs"] == [7.0, 7.0]
    assert trial.stopped_at("training", 6).outcome["scalars"]["training/seed/epochs"] == [7.0, 7.0]


class OwnSession(TinySession):
    """An author's own session, whose optimizer doesn't draw."""

    def init_optimizer(self):
        return torch.optim.SGD(self.network.parameters(), lr=self.config_session.learning_rate, momentum=0.9)


def test_a_hook_can_be_tried_in_a_custom_session():
    trial = HookTrial(hooks.DrawsBeforeTheStep, OwnSession, tiny_config(seed=None, num_epochs=1))
    check_neutrality(trial)
    assert trial.unbroken.outcome["optimizer"]["state"][0].keys() == {"momentum_buffer"}
    text = check_stops(trial)
    assert text.startswith(
        "6 runs ended like the uninterrupted run; stopped after training iteration 1 3 5, validation"
    )


def test_a_custom_session_needs_a_config():
    with pytest.raises(HookCheckError, match=r"OwnSession was passed without a config\. To fix, "):
        check_hook(hooks.GradientNorms, observes=True, session_class=OwnSession)
