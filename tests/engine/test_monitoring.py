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
def test_the_phase_is_the_named_phase_or_the_only_candidate(votes, name, expected):
    assert phase_to_monitor(run_with(**votes), name).name == expected


def test_several_validation_sets_without_a_name_are_an_error():
    with pytest.raises(HookError, match=r"several validation sets.*phase='validation-a'\. Available: .*validation-b"):
        phase_to_monitor(run_with(a=True, b=True), None)


def test_an_unknown_phase_is_an_error_that_lists_the_phases():
    with pytest.raises(HookError, match=r"no phase 'valid' to monitor\. Available: training, validation-valid"):
        phase_to_monitor(run_with(valid=True), "valid")


def test_an_unknown_value_is_an_error_that_suggests_the_most_similar():
    phase = Phase("validation-v", [], averages={"loss": 2.0, "accuracy": 0.5})
    assert monitored_value(phase, "accuracy") == 0.5
    with pytest.raises(HookError, match=r"no average named 'acuracy' to monitor\. Did you mean 'accuracy'"):
        monitored_value(phase, "acuracy")
