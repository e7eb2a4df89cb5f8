import logging

import pytest
import torch
from tiny import CONFIG, TinySession, config_with
from torch.optim.lr_scheduler import ReduceLROnPlateau

from torchbase import BaseMetricsClass, Phase, Run, hookimpl
from torchbase.engine.monitoring import Monitor, phase_to_monitor
from torchbase.errors import HookError
from torchbase.hooks import BestValidation, EarlyStopping, LearningRateSchedule
from torchbase.metrics import higher_is_better, lower_is_better


def plateau(monitor, *, mode=None, phase=None, **scheduler):
    return LearningRateSchedule(
        lambda optimizer: ReduceLROnPlateau(optimizer, **scheduler), monitor=monitor, mode=mode, phase=phase
    )


HOOKS = {"EarlyStopping": EarlyStopping, "BestValidation": BestValidation, "LearningRateSchedule": plateau}
WITH_A_PHASE = {name: make for name, make in HOOKS.items() if name != "BestValidation"}


class Distances(BaseMetricsClass):
    @lower_is_better
    def distance(self, *, output, target):
        return (output - target).abs().mean()

    @higher_is_better
    def closeness(self, *, output, target):
        return 1 / (1 + (output - target).abs().mean())

    def size(self, *, output):
        return output.abs().mean()


class Measured(TinySession):
    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        self.log("accuracy", (outputs["output"] > 0).float().mean())
        return outputs

    def init_metrics(self):
        return [Distances()]


def session_with(tmp_path, *hooks, **config):
    metrics = {"Distances": ["distance", "closeness", "size"]}
    session = Measured({**config_with(num_epochs=1, **config), "metrics": metrics}, tmp_path)
    if any(isinstance(hook, BestValidation) for hook in hooks):
        session.unregister("best_validation")
    for hook in hooks:
        session.register(hook)
    return session


class RecordEpochs:
    def __init__(self):
        self.epochs = []

    @hookimpl
    def on_epoch_end(self, run):
        self.epochs.append(run.epoch)


class RecordPhases:
    def __init__(self):
        self.phases = []

    @hookimpl(tryfirst=True)
    def on_phase_end(self, phase):
        self.phases.append(phase.name)


class RefuseTraining:
    @hookimpl
    def on_iteration_start(self, phase):
        raise AssertionError(f"an iteration of {phase.name} has started")


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


@pytest.mark.parametrize(
    ("name", "meant"),
    [("valid", "validation-valid"), ("vald", "validation-valid"), ("traning", "training"), ("far", "validation-far")],
)
def test_an_unknown_phase_is_an_error_that_lists_the_phases_and_suggests_one(name, meant):
    expected = rf"no phase '{name}' to monitor\. Did you mean '{meant}'\? Available: training, validation-valid"
    with pytest.raises(HookError, match=expected):
        phase_to_monitor(run_with(valid=True, far=False), name)


@pytest.mark.parametrize("make", WITH_A_PHASE.values(), ids=WITH_A_PHASE)
def test_a_phase_named_as_the_console_names_it_is_an_error_before_training(tmp_path, make):
    session = session_with(tmp_path, make("loss", phase="demo"), RefuseTraining())
    with pytest.raises(HookError, match="Did you mean 'validation-demo'"):
        session()


def test_an_unknown_value_is_an_error_that_suggests_the_most_similar():
    phase = Phase("validation-v", [], averages={"loss": 2.0, "accuracy": 0.5})
    assert Monitor("Hook", "accuracy", "max").value_of(phase) == 0.5
    with pytest.raises(HookError, match=r"no average named 'acuracy', which Hook monitors\. Did you mean 'accuracy'"):
        Monitor("Hook", "acuracy", "max").value_of(phase)


@pytest.mark.parametrize("make", HOOKS.values(), ids=HOOKS)
@pytest.mark.parametrize("monitor", ["accuracy", "size"])
def test_a_value_without_a_known_direction_needs_a_mode(tmp_path, make, monitor):
    session = session_with(tmp_path, make(monitor), RefuseTraining())
    with pytest.raises(HookError, match=rf"monitors '{monitor}'.*pass mode='min' or mode='max'"):
        session()
    session_with(tmp_path, make(monitor, mode="min"), record := RecordEpochs())()
    assert record.epochs == [1]


@pytest.mark.parametrize("make", HOOKS.values(), ids=HOOKS)
def test_an_unknown_mode_is_an_error_at_once(make):
    hook = "LearningRateSchedule" if make is plateau else make.__name__
    with pytest.raises(HookError, match=f"The mode of {hook} has to be 'min' or 'max', but got 'highest'"):
        make("loss", mode="highest")


@pytest.mark.parametrize(
    ("make", "is_better"),
    [
        (lambda: EarlyStopping("loss", patience=1), False),
        (lambda: EarlyStopping("distance", patience=1), False),
        (lambda: EarlyStopping("closeness", patience=1), True),
        (lambda: EarlyStopping("closeness", mode="min", patience=1), False),
    ],
)
def test_the_direction_follows_from_the_loss_or_the_declaration_of_the_metric(tmp_path, make, is_better):
    hook = make()
    session = session_with(tmp_path, hook)
    run = session._run
    run.validation = run.validation[:1]
    hook.on_run_start(run)
    name = hook._monitor.name
    for value in (1.0, 2.0):
        run.validation[0].averages = {name: value}
        hook.on_phase_end(run.validation[0])
    hook.should_stop(run)
    assert (run.stop_reason is None) is is_better


@pytest.mark.parametrize(
    ("monitor", "mode", "of_scheduler", "problem"),
    [
        ("loss", None, "max", "of which lower is better.*mode='max'. To fix, pass mode='min' to ReduceLROnPlateau"),
        ("closeness", None, "min", "of which higher is better.*pass mode='max' to ReduceLROnPlateau"),
        ("size", "max", "min", "of which higher is better.*pass mode='max' to ReduceLROnPlateau"),
        ("closeness", None, "max", None),
        ("size", None, "max", None),
        ("size", "min", "min", None),
    ],
)
def test_the_mode_of_a_plateau_has_to_agree(tmp_path, monitor, mode, of_scheduler, problem):
    hook = LearningRateSchedule(lambda one: ReduceLROnPlateau(one, mode=of_scheduler), monitor=monitor, mode=mode)
    session = session_with(tmp_path, hook)
    if problem is None:
        session()
    else:
        with pytest.raises(HookError, match=problem):
            session()


@pytest.mark.parametrize("make", HOOKS.values(), ids=HOOKS)
@pytest.mark.parametrize(("monitor", "meant"), [("acuracy", "accuracy"), ("losses", "loss"), ("distanse", "distance")])
def test_a_misspelt_name_is_an_error_before_training(tmp_path, make, monitor, meant):
    with pytest.raises(HookError, match=f"monitors '{monitor}'.*Did you mean '{meant}'"):
        session_with(tmp_path, make(monitor, mode="min"))()
    assert list(tmp_path.iterdir()) == []  # the session removes the directory of a run without results


@pytest.mark.parametrize("make", HOOKS.values(), ids=HOOKS)
def test_with_hooks_that_may_log_more_a_misspelt_name_is_a_warning_and_then_an_error(tmp_path, make, caplog):
    session = session_with(tmp_path, make("acuracy", mode="min"), record := RecordPhases())
    with (
        caplog.at_level(logging.WARNING, "torchbase"),
        pytest.raises(HookError, match=r"no average named 'acuracy'.*Did you mean 'accuracy'\? Available: .*loss"),
    ):
        session()
    assert record.phases == ["training", "validation-valid"]
    assert len([one for one in caplog.records if "monitors 'acuracy'" in one.message]) == 1


@pytest.mark.parametrize("make", HOOKS.values(), ids=HOOKS)
def test_a_value_of_another_hook_is_monitored_without_a_warning(tmp_path, make, caplog):
    class Norms:
        @hookimpl
        def compute_phase_metrics(self, run):
            return {"norm": torch.nn.utils.get_total_norm(list(run.network.parameters())).item()}

    session = session_with(tmp_path, Norms(), make("norm", mode="min"))
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert session().epochs_done == 1
    assert [one for one in caplog.records if "monitors" in one.message] == []


def test_a_value_of_a_technique_in_training_is_monitored(tmp_path):
    session = TinySession({**CONFIG, "metrics": {}}, tmp_path)
    session.register(LearningRateSchedule(lambda one: torch.optim.lr_scheduler.ConstantLR(one), "1it"))
    session.register(EarlyStopping("learning_rate", phase="training", mode="max", patience=9))
    assert session().epochs_done == 2
