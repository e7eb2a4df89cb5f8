import pytest
import torch
from adversaries import AdversarialSession
from every_technique import session_with
from tiny import TinySession

from torchbase import hookimpl
from torchbase.errors import StepError


class Closed(torch.optim.SGD):
    """An optimizer of the user that requires a closure."""

    def step(self, closure):
        closure()
        return super().step()


class ClosedSession(TinySession):
    kind = torch.optim.LBFGS

    def init_optimizer(self):
        return self.kind(self.network.parameters(), lr=0.01)


class OwnClosedSession(ClosedSession):
    kind = Closed


@pytest.mark.parametrize("parts", [None, 2])
@pytest.mark.parametrize("kind", [ClosedSession, OwnClosedSession])
def test_an_optimizer_that_needs_a_closure_is_refused_before_training(tmp_path, kind, parts):
    name = kind.kind.__name__
    with pytest.raises(StepError, match=f"The optimizer {name} can't be stepped: its step.. requires 'closure'"):
        session_with(tmp_path, kind=kind, mini_batch_parts=parts)()


def test_one_of_several_optimizers_that_needs_a_closure_is_refused(tmp_path):
    class Mixed(AdversarialSession):
        def init_optimizer(self):
            return super().init_optimizer() | {"generator": torch.optim.LBFGS(self.network.generator.parameters())}

    with pytest.raises(StepError, match=r"LBFGS can't be stepped: .* register the hook ClosureStep\(\)"):
        session_with(tmp_path, kind=Mixed)()


class StepsWithClosure:
    @hookimpl
    def run_optimizer_step(self, run):
        run.optimizer.step(lambda: torch.zeros(()))
        run.optimizer.zero_grad()


class IteratesWithClosure:
    @hookimpl
    def run_iteration(self, run, phase, batch):
        with torch.set_grad_enabled(phase.is_training):
            loss = run.call.run_forward(run=run, phase=phase, batch=batch)
        if phase.is_training:
            loss.backward()
            run.optimizer.step(lambda: loss)
            run.optimizer.zero_grad()


@pytest.mark.parametrize("hook", [StepsWithClosure, IteratesWithClosure])
@pytest.mark.parametrize("kind", [ClosedSession, OwnClosedSession])
def test_a_hook_may_step_it_with_a_closure(tmp_path, kind, hook):
    assert session_with(tmp_path, hook(), kind=kind)().epochs_done == 2


class Wraps:
    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run):
        return (yield)


def test_a_wrapper_steps_nothing(tmp_path):
    with pytest.raises(StepError, match="can't be stepped"):
        session_with(tmp_path, Wraps(), kind=ClosedSession)()


class Variadic(torch.optim.SGD):
    def step(self, *arguments, **more):
        return super().step(*arguments, **more)


def test_an_optimizer_that_takes_any_arguments_is_stepped(tmp_path):
    class VariadicSession(ClosedSession):
        kind = Variadic

    assert session_with(tmp_path, kind=VariadicSession)().epochs_done == 2


def add_scheduler(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 1)


def replace_on_the_instance(optimizer):
    step = optimizer.step
    optimizer.step = lambda: step(lambda: torch.zeros(()))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, Variadic])
@pytest.mark.parametrize("wrap", [add_scheduler, replace_on_the_instance])
def test_an_optimizer_whose_step_was_wrapped_is_stepped(tmp_path, kind, wrap):
    class WrappedSession(TinySession):
        def init_optimizer(self):
            optimizer = kind(self.network.parameters(), lr=0.01)
            self.wrapper = wrap(optimizer)
            return optimizer

    assert session_with(tmp_path, kind=WrappedSession)().epochs_done == 2


def test_a_step_of_the_instance_may_pass_the_closure(tmp_path):
    class OwnStepSession(ClosedSession):
        def init_optimizer(self):
            optimizer = super().init_optimizer()
            replace_on_the_instance(optimizer)
            return optimizer

    assert session_with(tmp_path, kind=OwnStepSession)().epochs_done == 2


def test_a_wrapped_step_that_needs_a_closure_is_refused(tmp_path):
    class WrappedSession(ClosedSession):
        def init_optimizer(self):
            optimizer = super().init_optimizer()
            self.scheduler = add_scheduler(optimizer)
            return optimizer

    with pytest.raises(StepError, match="requires 'closure'"):
        session_with(tmp_path, kind=WrappedSession)()
