import pytest
import torch
from every_technique import session_with, training_differences
from tiny import TinySession

from torchbase import hookimpl
from torchbase.checkpoints.forward_state import copier_of
from torchbase.engine.training_step import loss_to_train_on, use_gradients
from torchbase.files.bitwise import different_values
from torchbase.hooks import SharpnessAwareMinimization
from torchbase.randomness.streams import capture_streams
from torchbase.techniques.repeated_gradients import RepeatableIteration


def state_of(run, phase):
    return {
        "streams": capture_streams(run.device),
        "network": {name: value.clone() for name, value in run.network.state_dict().items()},
        "values": dict(phase.values),
        "outputs": dict(phase.outputs),
        "loss": phase.loss,
        "samples": phase.samples,
    }


class Repeats:
    """Computes the gradients of each iteration three times, with other gradients cleared before."""

    def __init__(self):
        self.seen = []

    @hookimpl(wrapper=True)
    def run_iteration(self, run, phase, batch):
        if phase.is_training:
            self.iteration, self.phase = RepeatableIteration(run, phase, batch, copier_of(run)), phase
        return (yield)

    @hookimpl
    def on_gradients_ready(self, run):
        parameters = list(run.network.parameters())
        first, before = [one.grad.clone() for one in parameters], state_of(run, self.phase)
        for _ in range(2):
            run.network.zero_grad()
            loss = self.iteration.compute_gradients()
            assert torch.equal(loss, self.phase.loss)
            self.seen.append(different_values([one.grad for one in parameters], first))
            self.seen.append(different_values(state_of(run, self.phase), before))


@pytest.mark.parametrize("parts", [None, 2])
def test_gradients_repeat_and_leave_no_trace(tmp_path, parts):
    settings = {"mini_batch_size": 6, "mini_batch_parts": parts, "dropout": 0.3, "num_epochs": 1}
    repeats = Repeats()
    plain, repeated = session_with(tmp_path / "a", **settings), session_with(tmp_path / "b", repeats, **settings)
    plain()
    repeated()
    assert repeats.seen == [[]] * (3 * 4)
    assert training_differences(plain, repeated) == []


class OwnIteration:
    """A hook of the user that runs the iterations, and can compute gradients alone."""

    @hookimpl
    def run_iteration(self, run, phase, batch):
        if not phase.is_training:
            with torch.no_grad():
                run.call.run_forward(run=run, phase=phase, batch=batch)
            return
        self.compute_gradients(run, phase, batch)
        use_gradients(run)

    def compute_gradients(self, run, phase, batch):
        loss = run.call.run_forward(run=run, phase=phase, batch=batch)
        run.call.run_backward(run=run, loss=loss_to_train_on(loss))


def test_an_own_iteration_may_compute_gradients_alone(tmp_path):
    plain = session_with(tmp_path / "a", SharpnessAwareMinimization(), kind=TinySession, num_epochs=1)
    own = session_with(tmp_path / "b", SharpnessAwareMinimization(), OwnIteration(), kind=TinySession, num_epochs=1)
    plain()
    own()
    assert training_differences(plain, own) == []
