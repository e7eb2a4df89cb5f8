import pytest

from torchbase import Phase, Run
from torchbase.engine.monitoring import monitored_value, phase_to_monitor
from torchbase.errors import HookError


def run_with(**votes_by_name):
    validation = tuple(Phase(f"validation-{name}", [], votes=votes) for name, votes in votes_by_name.items())
    return Run(training=Phase("training", [], is_training=True), max_epochs=1, validation=validation)


@pytest.mark.parametrize(
    ("votes", "name", "expected"),
    [
        ({}, None, "training"),
        ({"demo": False}, None, "validation-demo"),
        ({"valid": True, "demo": False}, None, "validation-valid"),
        ({"valid": True, "other": True}, "validation-other", "validation-other"),
        ({"valid": True}, "training", "training"),
    ],
)
def test_the_phase_is_the_named_one_or_the_only_one_that_can_be_meant(votes, name, expected):
    assert phase_to_monitor(run_with(**votes), name).name == expected


def test_of_several_sets_none_is_chosen_for_the_user():
    with pytest.raises(HookError, match=r"several validation sets.*phase='validation-a'; there are: .*validation-b"):
        phase_to_monitor(run_with(a=True, b=True), None)


def test_a_phase_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(HookError, match=r"no phase 'valid' to monitor\. There are: training, validation-valid"):
        phase_to_monitor(run_with(valid=True), "valid")


def test_a_value_that_is_not_there_is_answered_with_the_nearest():
    phase = Phase("validation-v", [], averages={"loss": 2.0, "accuracy": 0.5})
    assert monitored_value(phase, "accuracy") == 0.5
    with pytest.raises(HookError, match=r"no average named 'acuracy' to monitor\. Did you mean 'accuracy'"):
        monitored_value(phase, "acuracy")
