import pytest
from adversaries import AdversarialSession
from every_technique import session_with
from tiny import TinySession, read_scalars
from torch.optim.lr_scheduler import ExponentialLR

from torchbase.errors import HookError, StepError
from torchbase.hooks import LearningRateSchedule


def halve(optimizer):
    return ExponentialLR(optimizer, 0.5)


class ScheduledSession(AdversarialSession):
    def init_scheduler(self):
        return {
            "generator": halve(self.optimizer["generator"]),
            "discriminator": LearningRateSchedule(lambda optimizer: ExponentialLR(optimizer, 0.9), every="1it"),
        }


def test_each_optimizer_has_a_schedule(tmp_path):
    session = session_with(tmp_path, kind=ScheduledSession)
    session()
    scalars = read_scalars(session.run_dir)
    assert [value for _, value in scalars["training/learning_rate_generator/epochs"]] == pytest.approx([0.05, 0.025])
    per_step = [value for _, value in scalars["training/learning_rate_discriminator/iterations"]]
    assert per_step == pytest.approx([0.05 * 0.9**step for step in range(10)])
    assert session.optimizer["generator"].param_groups[0]["lr"] == pytest.approx(0.0125)
    assert session.optimizer["discriminator"].param_groups[0]["lr"] == pytest.approx(0.05 * 0.9**10)
    assert {"learning_rate_schedule generator", "learning_rate_schedule discriminator"} <= session.hooks.keys()


def test_a_hook_may_be_registered_for_one_optimizer(tmp_path):
    session = session_with(tmp_path, LearningRateSchedule(halve, optimizer="generator"), kind=AdversarialSession)
    session()
    assert [one.param_groups[0]["lr"] for one in session.optimizer.values()] == pytest.approx([0.05, 0.0125])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda named: halve(named["generator"]), StepError, "returned an ExponentialLR, and there are several"),
        (lambda named: {"generatr": halve(named["generator"])}, StepError, "for 'generatr', .* mean 'generator'"),
        (lambda named: {"generator": halve(named["discriminator"])}, StepError, "was made of another optimizer"),
        (lambda named: {"generator": 0.1}, StepError, "init_scheduler has to return .* and returned a float"),
        (lambda named: {} if halve(named["generator"]) else None, StepError, "of the SGD 'generator', but returned"),
        (
            lambda named: {"generator": LearningRateSchedule(halve, optimizer="discriminator")},
            HookError,
            "for the optimizer 'discriminator' was returned for 'generator'",
        ),
    ],
)
def test_what_is_no_dictionary_of_schedules_is_refused(tmp_path, make, error, message):
    class Wrong(AdversarialSession):
        def init_scheduler(self):
            return make(self.optimizer)

    with pytest.raises(error, match=message):
        session_with(tmp_path, kind=Wrong)()


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (AdversarialSession, None, "LearningRateSchedule is for none of them. To fix, pass the name"),
        (AdversarialSession, "generatr", "is for 'generatr'. Did you mean 'generator'"),
        (TinySession, "generator", "the run has a single optimizer, without a name"),
    ],
)
def test_a_schedule_for_no_optimizer_is_refused(tmp_path, kind, name, message):
    with pytest.raises(HookError, match=message):
        session_with(tmp_path, LearningRateSchedule(halve, optimizer=name), kind=kind)()


def test_a_dictionary_of_schedules_for_a_single_optimizer_is_refused(tmp_path):
    class Single(TinySession):
        def init_scheduler(self):
            return {"generator": halve(self.optimizer)}

    with pytest.raises(StepError, match=r"init_scheduler has to return .* and returned a dict"):
        session_with(tmp_path, kind=Single)()


def test_a_scheduler_of_an_optimizer_with_a_scheduler_from_before_is_not_asked_for(tmp_path):
    class Own(AdversarialSession):
        def init_optimizer(self):
            named = super().init_optimizer()
            self.own = halve(named["generator"])
            return named

    assert session_with(tmp_path, kind=Own, num_epochs=1)().epochs_done == 1
