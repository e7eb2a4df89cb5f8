"""What an author is told of hooks that keep to the rules, and of hooks that break one."""

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


def found_by(check, make_hook):
    """The message of a check that fails, on one line."""
    with pytest.raises(HookCheckError) as raised:
        check(HookTrial(make_hook))
    return " ".join(str(raised.value).split())


def test_a_hook_that_keeps_to_the_rules_gets_a_report():
    report = check_hook(functools.partial(hooks.GradientNorms, decay=0.5), observes=True)
    assert report.is_good
    head, *lines = str(report).splitlines()
    assert head == "The hook 'gradient_norms' in NoisySession: 5 checks passed"
    names = [line.split()[1] for line in lines if line.startswith("  ok ")]
    assert names == ["registers", "state", "observes", "stopped", "killed"]
    text = " ".join(" ".join(lines).split())
    assert "it hears on_gradients_ready" in text
    assert "mean came back from a checkpoint" in text
    assert "9 runs ended as the unbroken one; stopped behind training iteration 1 3 5 6 8 10," in text
    assert "validation-valid iteration 2 3, validation-demo iteration 2" in text
    assert "a run was killed in training iteration 9 and ended as the unbroken one" in text
    assert "by a copy" not in text
    assert re.search(r"cost [+-]\d+\.\d µs an iteration over \d+ µs without it", text)


@pytest.fixture(scope="module")
def report_on_a_count_without_state():
    class Local(hooks.CountsWithoutState):  # no other process can make it, which saves one
        name = "counts_without_state"

    with pytest.raises(AssertionError) as raised:
        check_hook(Local, observes=True)
    assert isinstance(raised.value, TorchbaseError)
    return str(raised.value)


def test_all_that_fails_is_told_at_once(report_on_a_count_without_state):
    said = report_on_a_count_without_state
    assert said.startswith("The hook 'counts_without_state' in NoisySession: 3 of 5 checks failed\n")
    assert re.findall(r"^  (\w+) +(\w+) ", said, re.MULTILINE) == [
        ("ok", "registers"),
        ("ok", "state"),
        ("FAILED", "observes"),
        ("FAILED", "stopped"),
        ("FAILED", "killed"),
    ]
    assert max(map(len, said.splitlines())) <= 110


def test_a_count_without_state_that_changes_the_training_is_named(report_on_a_count_without_state):
    said = " ".join(report_on_a_count_without_state.split())
    assert "8 of 9 runs that were stopped and resumed ended otherwise than the unbroken one" in said
    assert "stopped behind training iteration 1 3 5 6 8, validation-valid iteration 2 3," in said
    assert "at on_gradients_ready of training iteration 2 there differ optimizer (param_groups.0.lr)." in said
    assert "It has no state_dict and load_state_dict, so what it remembers is lost" in said
    assert "when a run goes on: self.steps." in said
    assert "To fix, give that in state_dict(), and take it in load_state_dict(state)." in said
    assert "A run that was killed in training iteration 9 and resumed ended otherwise" in said


def test_a_hook_that_draws_during_the_forward_pass_is_told_so():
    said = found_by(check_neutrality, hooks.DrawsBeforeForward)
    assert said.startswith("It is said to observe, and a run with it ends otherwise than one without it.")
    assert (
        "The runs part after on_iteration_start of training iteration 1: at on_loss_computed of training iteration 1 "
        "there differ loss, random streams (torch). The hook implements there: run_forward." in said
    )
    assert "It draws from the global random streams within an iteration" in said
    assert "To fix, put `with torchbase.randomness.fence(run.device):` around what draws" in said


def test_weights_that_an_observer_changes_are_named_with_the_event():
    said = found_by(check_neutrality, hooks.ShrinksWeights)
    assert (
        "The runs part after on_gradients_ready of training iteration 1: at on_iteration_end of training iteration 1 "
        "there differ network (layers.0.weight, layers.0.bias and 3 more). The hook implements there: on_iteration_end."
        in said
    )
    assert "It changes what it says to observe. To fix, work on a copy" in said


def test_a_draw_that_only_some_optimizers_notice_is_found_and_its_remedy_works():
    said = found_by(check_neutrality, hooks.DrawsBeforeTheStep)
    assert "on_gradients_ready of training iteration 1 there differ random streams (random, torch)" in said
    assert "bit for bit" in check_neutrality(HookTrial(hooks.FencesItsDraws))


def test_a_mode_that_is_left_is_named():
    assert "It leaves the network in another mode." in found_by(check_neutrality, hooks.LeavesEvaluationMode)


def test_an_observer_that_ends_the_run_is_told_so():
    said = found_by(check_neutrality, hooks.StopsTheRun)
    assert "Nothing that an iteration works with differs. To fix, look for what the hook changes in `run`" in said
    assert "progress (epochs done)" in said


def test_a_state_that_nothing_rests_on_is_not_asked_for():
    trial = HookTrial(hooks.CountsForNothing)
    assert check_state(trial) == "it keeps none in checkpoints"
    assert check_stops(trial).startswith("9 runs ended as the unbroken one")


def test_a_validation_that_is_counted_twice_is_found():
    said = found_by(check_stops, hooks.SumsOverValidation)
    assert "3 of 9 runs" in said
    assert "stopped behind validation-valid iteration 2 3, validation-demo iteration 2." in said
    assert "What it remembers ended otherwise: self.iterations." in said
    assert "A validation that was broken off begins again from its first mini-batch." in said
    assert "the hook's state (iterations)" in said


@pytest.mark.parametrize(("make_hook", "name"), [(hooks.ForgetsHalf, "second"), (hooks.BeginsAnew, "first")])
def test_a_value_that_comes_back_otherwise_is_named(make_hook, name):
    said = found_by(check_state, make_hook)
    assert f"went on with another state than was kept; there differ {name}. To fix, let load_state_dict" in said


def test_a_value_that_no_checkpoint_keeps_is_named():
    said = found_by(check_registration, hooks.KeepsAnObject)
    assert "A run with the hook ended with RunDirectoryError: " in said
    assert "Tensors, numbers, strings, bytes and None can be saved" in said
    assert said.endswith("Of its state_dict() 'noise' can't be kept in a checkpoint.")


def test_a_state_that_is_no_dictionary_is_refused():
    said = found_by(check_registration, hooks.GivesAList)
    assert said.startswith("state_dict() gave list, and has to give a dictionary. To fix, ")


def test_a_state_that_is_not_there_from_the_start_is_refused():
    said = found_by(check_registration, hooks.HasNoStateAtFirst)
    assert said.startswith("state_dict() raised TypeError: unsupported operand type(s)")
    assert "To fix, let it give a state from on_run_start on" in said


def test_half_of_the_methods_of_a_state_is_refused():
    said = found_by(check_state, hooks.CannotLoad)
    assert said == "It has state_dict and no load_state_dict, so nothing of it is kept. To fix, write load_state_dict."


def test_a_hook_that_changes_the_training_has_to_do_so_in_the_same_way():
    assert check_repetition(HookTrial(hooks.HalvesTheRate)).startswith("the same run twice ends bit for bit the same")
    said = found_by(check_repetition, hooks.DrawsByChance)
    assert "at on_gradients_ready of training iteration 1 there differ gradients (layers.0.weight" in said
    assert "It works with something that doesn't follow from the seed" in said


def test_what_is_another_each_time_is_not_compared_and_told():
    trial = HookTrial(hooks.LogsTime)
    check_state(trial)
    check_neutrality(trial)
    said = check_stops(trial)
    assert "Not compared, since two unbroken runs differ in it: averages (training/seconds, " in said
    assert "the hook's state (seconds)" in said
    assert "loss" not in said


def test_a_file_that_is_not_cut_back_is_found_by_a_kill_alone():
    class Local(hooks.AppendsToAFile):
        pass

    trial = HookTrial(Local)
    check_stops(trial)
    with pytest.raises(HookCheckError, match=r"(?s)killed in training iteration 9.*files \(iterations.txt\)"):
        check_kill(trial)


def test_a_hook_that_no_other_process_can_make_is_checked_by_a_copy():
    class Local:
        @hookimpl
        def on_epoch_end(self):
            pass

    said = check_kill(HookTrial(Local))
    assert (
        "ended as the unbroken one (in this process, by a copy of its files, since it can't be made in another" in said
    )


def test_a_slip_is_told_and_nothing_else_is_tried():
    class Misspelt:
        @hookimpl
        def on_epoch_strat(self):
            pass

    with pytest.raises(HookCheckError, match=r"(?s)1 of 1 checks failed.*registers.*Did you\s+mean\s+'on_epoch_start'"):
        check_hook(Misspelt, observes=True)


def test_the_same_hook_twice_is_refused():
    hook = hooks.GradientNorms()
    assert "make_hook gave the same hook twice" in found_by(check_registration, lambda: hook)


def test_an_error_of_a_hook_is_told_with_its_event():
    said = found_by(check_registration, hooks.Raises)
    assert "A run with the hook ended with OSError: no such account; in the hook 'raises', at on_phase_end" in said


def test_a_hook_that_keeps_iterations_from_being_told_is_refused():
    assert "no training iteration came to its end" in found_by(check_registration, hooks.RunsNothing)


def test_a_hook_is_there_when_the_session_is_made():
    trial = HookTrial(hooks.HearsTheSetUp)
    assert trial.unbroken.outcome["scalars"]["training/seed/epochs"] == [7.0, 7.0]
    assert trial.stopped_at("training", 6).outcome["scalars"]["training/seed/epochs"] == [7.0, 7.0]


class OwnSession(TinySession):
    """A session of the author's, without an optimizer that draws."""

    def init_optimizer(self):
        return torch.optim.SGD(self.network.parameters(), lr=self.config_session.learning_rate, momentum=0.9)


def test_a_hook_is_tried_in_a_session_of_the_authors_own():
    trial = HookTrial(hooks.DrawsBeforeTheStep, OwnSession, tiny_config(seed=None, num_epochs=1))
    check_neutrality(trial)
    assert trial.unbroken.outcome["optimizer"]["state"][0].keys() == {"momentum_buffer"}
    said = check_stops(trial)
    assert said.startswith(
        "6 runs ended as the unbroken one; stopped behind training iteration 1 3 5, validation-valid"
    )


def test_a_session_of_ones_own_needs_a_config():
    with pytest.raises(HookCheckError, match=r"OwnSession was given, and no config for it\. To fix, "):
        check_hook(hooks.GradientNorms, observes=True, session_class=OwnSession)
