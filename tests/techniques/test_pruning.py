import math

import pytest
import several
from every_technique import RecordingTrial, check_resumes_exactly, session_with
from tiny import TinySession, read_scalars

from torchbase import Engine, Interval, Phase, Run, hookimpl
from torchbase.errors import HookError
from torchbase.hooks import Pruning
from torchbase.testing import check_hook
from torchbase.testing.forked import reason_against_forking


class Losses:
    """Returns a fixed loss of the validation set in each epoch; none where it doesn't run."""

    def __init__(self, values):
        self.values = values

    @hookimpl
    def compute_phase_metrics(self, run, phase):
        return {} if phase.is_training else {"loss": self.values[run.epoch - 1]}


def run_on(values, trial, every="1ep", **arguments):
    run = Run(
        training=Phase("training", [1], is_training=True),
        validation=(Phase("validation-v", [1], votes=True, every=Interval.parse(every)),),
        max_epochs=len(values),
    )
    pruning = Pruning(trial, **arguments)
    Engine(lambda run, phase, batch: None, hooks=[Losses(values), pruning]).run(run)
    return run, pruning


def test_each_epoch_is_reported_from_step_0_and_the_trial_stops_the_run():
    run, pruning = run_on([3.0, 2.5, math.nan, 1.0, 1.0], trial := RecordingTrial(prune_at=3))
    assert [trial.values[step] for step in (0, 1, 3)] == [3.0, 2.5, 1.0]
    assert math.isnan(trial.values[2])
    assert trial.asked == [0, 1, 2, 3]
    assert (run.epochs_done, pruning.is_pruned) == (4, True)
    assert run.stop_reason == "pruned by the trial: the loss of validation-v was 1 after epoch 4"


def test_a_run_that_is_not_pruned_ends_as_without_the_hook():
    run, pruning = run_on([3.0, 2.0], trial := RecordingTrial())
    assert (run.epochs_done, run.stop_reason, pruning.is_pruned) == (2, None, False)
    assert trial.values == {0: 3.0, 1: 2.0}


def test_an_epoch_without_the_phase_reports_nothing():
    _, pruning = run_on([5.0, 4.0, 3.0, 2.0, 1.0], trial := RecordingTrial(), every="2ep")
    assert (trial.values, pruning.is_pruned) == ({1: 4.0, 3: 2.0, 4: 1.0}, False)


def test_a_trial_that_prunes_after_the_last_epoch_is_heard():
    run, pruning = run_on([3.0, 2.0], RecordingTrial(prune_at=1))
    assert (run.epochs_done, pruning.is_pruned) == (2, True)
    assert run.stop_reason.startswith("pruned by the trial")


def test_what_was_reported_before_is_neither_reported_nor_asked_for_again(caplog):
    trial = RecordingTrial(prune_at=3)
    trial.values = {0: 3.0, 1: 2.0, 2: math.nan}
    _, pruning = run_on([3.0, 2.0, math.nan, 1.0, 1.0], trial, reported=dict(trial.values))
    assert trial.asked == [2, 3]  # it may have been killed before it was answered at step 2
    assert (trial.values[3], pruning.is_pruned, caplog.messages) == (1.0, True, [])


def test_another_value_than_the_reported_one_is_said(caplog):
    trial = RecordingTrial()
    trial.values = {0: 3.5}
    run_on([3.0, 2.0], trial, reported=dict(trial.values))
    (message,) = caplog.messages
    assert message.startswith("The trial has 3.5 as the loss of step 0, and the run has computed 3.0 now.")
    assert trial.values == {0: 3.5, 1: 2.0}


def test_a_session_reports_its_curve_and_resumes_exactly(tmp_path):
    trials = []

    def hooks():
        trials.append(RecordingTrial(prune_at=2))
        return [Pruning(trials[-1])]

    whole = check_resumes_exactly(tmp_path, hooks, num_epochs=5)
    assert whole._run.epochs_done == 3
    curve = read_scalars(whole.run_dir)["validation-valid/loss/epochs"]
    assert trials[0].values == pytest.approx({step - 1: value for step, value in curve})  # of 32 bits
    together = {}
    for trial in trials[1:]:
        assert not together.keys() & trial.values.keys()
        together |= trial.values
    assert together == trials[0].values


def test_a_pruned_run_stays_pruned(tmp_path):
    session_with(tmp_path, Pruning(RecordingTrial(prune_at=1)), num_epochs=4)()
    resumed = TinySession.resume(tmp_path)
    resumed.register(pruning := Pruning(trial := RecordingTrial()))
    summary = resumed()
    assert (summary.epochs_done, pruning.is_pruned, trial.values) == (2, True, {})
    assert summary.stop_reason.startswith("pruned by the trial: the loss of validation-valid was ")


@pytest.mark.thorough
def test_the_hook_follows_the_rules():
    check_hook(lambda: Pruning(RecordingTrial()), observes=True)


def on_two_processes(index, parent, prune_at):
    trial = RecordingTrial(prune_at) if index == 0 else None
    session = session_with(parent, pruning := Pruning(trial), num_epochs=4, mini_batch_size=6, mini_batch_parts=2)
    summary = session()
    return summary.epochs_done, summary.stop_reason, pruning.is_pruned, trial and trial.values


def without_a_trial(index, parent):
    with pytest.raises(HookError if index == 0 else Exception, match="no trial on the main process"):
        session_with(parent, Pruning(None), mini_batch_size=6)()


@pytest.mark.skipif(reason_against_forking() is not None, reason=str(reason_against_forking()))
def test_the_trial_of_the_main_process_decides_for_all(tmp_path):
    one, two = several.values_of(2, on_two_processes, tmp_path, 1)
    assert one[:3] == two[:3]
    assert (one[0], one[2], two[3]) == (2, True, None)
    assert one[3].keys() == {0, 1}


@pytest.mark.skipif(reason_against_forking() is not None, reason=str(reason_against_forking()))
def test_no_trial_on_the_main_process_is_an_error_on_each(tmp_path):
    several.values_of(2, without_a_trial, tmp_path)


class Study:
    def __init__(self, direction):
        self.direction = type("Direction", (), {"name": direction})()


@pytest.mark.parametrize(
    ("direction", "arguments", "is_refused"),
    [
        ("MAXIMIZE", {}, True),
        ("MINIMIZE", {}, False),
        ("MAXIMIZE", {"mode": "max"}, False),
        ("NOT_SET", {}, False),
    ],
)
def test_a_study_of_the_other_direction_is_refused(direction, arguments, is_refused):
    trial = RecordingTrial()
    trial.study = Study(direction)
    if not is_refused:
        run_on([1.0], trial, **arguments)
        return
    with pytest.raises(HookError, match=r"'loss', of which lower is better.*direction='minimize'"):
        run_on([1.0], trial, **arguments)


@pytest.mark.parametrize("trial", [5, object(), RecordingTrial.report])
def test_what_is_no_trial_is_refused(trial):
    with pytest.raises(HookError, match=r"expects a trial with the methods report\(value, step\)"):
        Pruning(trial)


def test_a_wrong_mode_or_phase_is_refused():
    with pytest.raises(HookError, match="The mode of Pruning"):
        Pruning(RecordingTrial(), mode="lowest")
    with pytest.raises(HookError, match="no phase 'valid' to monitor"):
        run_on([1.0], RecordingTrial(), phase="valid")
