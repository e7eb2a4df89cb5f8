from pathlib import Path

import pytest
import torch
from every_technique import (
    PlainSession,
    check_resumes_exactly,
    final_state_of,
    loss_of,
    session_with,
    step_plainly,
    train_by_hand,
    training_differences,
)
from tiny import StopAt, TinySession, config_with, make_dataset, read_scalars
from torch.optim import lr_scheduler

from torchbase import ValidationDatasetsDict, hookimpl
from torchbase.errors import HookError, IntervalError, StepError
from torchbase.files.bitwise import different_values
from torchbase.hooks import GradientAccumulation, LearningRateSchedule

SCHEDULERS = {
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda optimizer: lr_scheduler.MultiplicativeLR(optimizer, lambda step: 0.9),
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [1, 4, 7]),
    "ConstantLR": lambda optimizer: lr_scheduler.ConstantLR(optimizer, 0.5, 3),
    "LinearLR": lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4),
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.8),
    "PolynomialLR": lambda optimizer: lr_scheduler.PolynomialLR(optimizer, 8, 2.0),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 10),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3, 2),
    "CyclicLR": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, 3),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(optimizer, 7)],
        [3],
    ),
    "ChainedScheduler": lambda optimizer: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    ),
}


def rates_logged(session, unit):
    return [value for _, value in read_scalars(session.run_dir)[f"training/learning_rate/{unit}"]]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_after_steps_equals_a_loop_by_hand_and_resumes_exactly(tmp_path, name):
    schedulers, rates = [], []

    def step(session, batch):
        if not schedulers:
            schedulers.append(SCHEDULERS[name](session.optimizer))
        loss_of(session, batch).backward()
        rates.append(session.optimizer.param_groups[0]["lr"])
        session.optimizer.step()
        session.optimizer.zero_grad()
        schedulers[0].step()

    by_hand = train_by_hand(tmp_path, step, kind=PlainSession)
    session = check_resumes_exactly(
        tmp_path, lambda: [LearningRateSchedule(SCHEDULERS[name], every="1it")], kind=PlainSession
    )
    assert training_differences(session, by_hand) == []
    assert rates_logged(session, "iterations") == pytest.approx(rates)
    assert len(set(rates)) > 1


def train_epochs_by_hand(tmp_path, make_scheduler, epochs):
    """Trains with a scheduler that is stepped after each epoch of five mini-batches."""
    schedulers, rates = [], []

    def step(session, batch):
        if not schedulers:
            schedulers.append(make_scheduler(session.optimizer))
        step_plainly(session, batch)
        rates.append(session.optimizer.param_groups[0]["lr"])
        if len(rates) % 5 == 0:
            schedulers[0].step()

    return train_by_hand(tmp_path, step, epochs=epochs), rates[::5]


def test_a_schedule_after_epochs_equals_a_loop_by_hand(tmp_path):
    by_hand, rates = train_epochs_by_hand(tmp_path, SCHEDULERS["ExponentialLR"], epochs=3)
    session = session_with(tmp_path, LearningRateSchedule(SCHEDULERS["ExponentialLR"]), num_epochs=3)
    session()
    assert training_differences(session, by_hand) == []
    assert rates_logged(session, "epochs") == pytest.approx(rates)


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "MultiStepLR", "SequentialLR"])
def test_a_schedule_after_epochs_resumes_exactly(tmp_path, name):
    check_resumes_exactly(tmp_path, lambda: [LearningRateSchedule(SCHEDULERS[name])], num_epochs=3)


def impatient_plateau(optimizer):
    return lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)


@pytest.mark.parametrize(
    "arguments",
    [{"make_scheduler": impatient_plateau, "monitor": "loss"}, {"make_scheduler": SCHEDULERS["ExponentialLR"]}],
    ids=["plateau", "exponential"],
)
def test_a_run_resumed_before_the_end_of_an_epoch_continues_exactly(tmp_path, arguments):
    def hooks():
        return [LearningRateSchedule(**arguments)]

    whole = session_with(tmp_path / "whole", *hooks(), num_epochs=3)
    whole()
    stopped = session_with(tmp_path / "stopped", *hooks(), num_epochs=3)
    stopped.register(StopAt(1, "validation-demo"))  # after the monitored set
    stopped()
    resumed = TinySession.resume(tmp_path / "stopped")
    resumed.register(*hooks())
    resumed()
    assert different_values(final_state_of(whole), final_state_of(resumed)) == []


def test_the_interval_counts_optimizer_steps(tmp_path):
    session = session_with(
        tmp_path,
        GradientAccumulation(2),
        LearningRateSchedule(SCHEDULERS["ExponentialLR"], every="2it"),
        kind=PlainSession,
    )
    session()
    # The five mini-batches of an epoch make three steps.
    steps = [step for step, _ in read_scalars(session.run_dir)["training/learning_rate/iterations"]]
    assert steps == [2, 4, 5, 7, 9, 10]
    assert rates_logged(session, "iterations") == pytest.approx([0.05 * 0.8 ** (step // 2) for step in range(6)])


def test_a_plateau_of_the_monitored_value_reduces_the_rate(tmp_path):
    def make(optimizer):
        return lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=1)

    hook = LearningRateSchedule(make, monitor="loss", phase="validation-demo", mode="max")
    session = session_with(tmp_path, hook, num_epochs=6)
    session()
    losses = [value for _, value in read_scalars(session.run_dir)["validation-demo/loss/epochs"]]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.05)
    by_hand, rates = make(optimizer), []
    for loss in losses:
        rates.append(optimizer.param_groups[0]["lr"])
        by_hand.step(loss)
    assert rates_logged(session, "epochs") == pytest.approx(rates)
    assert rates[-1] < rates[0]


def test_the_scheduler_steps_only_in_epochs_that_validate_the_monitored_set(tmp_path):
    class Sometimes(TinySession):
        def init_datasets(self):
            training, _ = super().init_datasets()
            return training, ValidationDatasetsDict(
                datasets=(make_dataset(10, 0.1),), only_for_demo=(False,), names=("valid",), every="2ep"
            )

    monitored = []

    class RecordingPlateau(lr_scheduler.ReduceLROnPlateau):
        def step(self, metrics, epoch=None):
            monitored.append(metrics)
            super().step(metrics, epoch)

    session = session_with(
        tmp_path, LearningRateSchedule(RecordingPlateau, monitor="loss"), kind=Sometimes, num_epochs=5
    )
    session()
    assert monitored == pytest.approx(
        [value for _, value in read_scalars(session.run_dir)["validation-valid/loss/epochs"]]
    )
    assert len(monitored) == 3


def test_an_evaluation_between_epochs_does_not_count_as_a_validation(tmp_path):
    class Evaluates:
        def __init__(self):
            self.session = None

        @hookimpl
        def on_phase_end(self, phase):
            if phase.name == "validation-demo":  # after the monitored set
                self.session.evaluate(make_dataset(4, 50.0), "valid")

    def plateau_of(schedulers):
        def make(optimizer):
            schedulers.append(lr_scheduler.ReduceLROnPlateau(optimizer))
            return schedulers[0]

        return LearningRateSchedule(make, monitor="loss")

    plain, evaluated = [], []
    session_with(tmp_path, plateau_of(plain))()
    session = session_with(tmp_path, plateau_of(evaluated), evaluates := Evaluates())
    evaluates.session = session
    session()
    assert plain[0].state_dict() == evaluated[0].state_dict()


def test_each_parameter_group_has_its_own_rate(tmp_path):
    class TwoGroups(PlainSession):
        def init_optimizer(self):
            first, _, last, _ = self.network
            groups = [{"params": first.parameters()}, {"params": last.parameters(), "lr": 0.5}]
            return torch.optim.SGD(groups, lr=0.1)

    session = session_with(tmp_path, LearningRateSchedule(SCHEDULERS["ExponentialLR"], "1it"), kind=TwoGroups)
    session()
    scalars = read_scalars(session.run_dir)
    for number, rate in enumerate((0.1, 0.5)):
        curve = [value for _, value in scalars[f"training/learning_rate_{number}/iterations"]]
        assert curve == pytest.approx([rate * 0.8**step for step in range(10)])


class ScheduleAfterEpochs(TinySession):
    def init_scheduler(self):
        return lr_scheduler.ExponentialLR(self.optimizer, 0.8)


class ScheduleAfterSteps(TinySession):
    def init_scheduler(self):
        return LearningRateSchedule(SCHEDULERS["ExponentialLR"], every="1it")


@pytest.mark.parametrize(("kind", "every"), [(ScheduleAfterEpochs, "1ep"), (ScheduleAfterSteps, "1it")])
def test_init_scheduler_defines_the_schedule(tmp_path, kind, every):
    registered = session_with(tmp_path, LearningRateSchedule(SCHEDULERS["ExponentialLR"], every), dropout=0.3)
    registered()
    session = check_resumes_exactly(tmp_path, list, kind=kind)
    assert training_differences(session, registered) == []
    assert "learning_rate_schedule" in session.hooks


@pytest.mark.parametrize(("rate", "is_warned"), [(0.04, False), (0.01, True)])
def test_a_schedule_that_overrides_a_changed_rate_causes_a_warning(tmp_path, caplog, rate, is_warned):
    first = session_with(tmp_path, LearningRateSchedule(SCHEDULERS["LambdaLR"]), num_epochs=2, learning_rate=0.04)
    first()
    resumed = TinySession(
        config_with(num_epochs=3, learning_rate=rate),
        tmp_path,
        create_run_dir_afresh=False,
        source_run_dir_tag=Path(first.run_dir).name,
        allow_config_changes=True,
    )
    resumed.register(LearningRateSchedule(SCHEDULERS["LambdaLR"]))
    resumed()
    assert ("undoes this change at its next step" in caplog.text) == is_warned
    assert resumed.optimizer.param_groups[0]["lr"] == 0.04 / 4


def test_a_session_that_is_called_twice_continues_its_schedule(tmp_path):
    whole = session_with(tmp_path, kind=ScheduleAfterEpochs, num_epochs=3)
    whole()
    session = session_with(tmp_path, StopAt(8), kind=ScheduleAfterEpochs, num_epochs=3)
    session()
    session()
    assert training_differences(session, whole) == []


def test_an_invalid_return_value_of_init_scheduler_raises(tmp_path):
    class ReturnsNumber(TinySession):
        def init_scheduler(self):
            return 0.1

    with pytest.raises(StepError, match=r"init_scheduler has to return .* and returned a float"):
        session_with(tmp_path, kind=ReturnsNumber)()


def plateau(optimizer):
    return lr_scheduler.ReduceLROnPlateau(optimizer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"make_scheduler": plateau}, r"ReduceLROnPlateau can't be used with monitor=None.*monitor='loss'"),
        ({"make_scheduler": SCHEDULERS["StepLR"], "monitor": "loss"}, "StepLR can't be used with monitor='loss'"),
        ({"make_scheduler": lambda optimizer: 0.1}, "the function returned a float"),
        ({"make_scheduler": plateau, "monitor": "loss", "phase": "validation-vallid"}, "mean 'validation-valid'"),
        ({"make_scheduler": plateau, "monitor": "lost"}, "monitors 'lost'.*Did you mean 'loss'"),
    ],
)
def test_invalid_combinations_raise(tmp_path, arguments, message):
    with pytest.raises(HookError, match=message):
        session_with(tmp_path, LearningRateSchedule(**arguments))()


def test_invalid_intervals_raise_at_once():
    with pytest.raises(IntervalError, match="isn't possible here"):
        LearningRateSchedule(plateau, every="3s")
    with pytest.raises(HookError, match="monitor a value only at the end of epochs"):
        LearningRateSchedule(plateau, every="1it", monitor="loss")


@pytest.mark.parametrize("scheduler", [torch.optim.lr_scheduler.StepLR, torch.optim.lr_scheduler.ConstantLR])
def test_a_scheduler_in_place_of_a_function_is_refused(scheduler):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    with pytest.raises(HookError, match=f"expects a function .* but got a {scheduler.__name__}. To fix, pass a func"):
        LearningRateSchedule(scheduler(optimizer, 1))
