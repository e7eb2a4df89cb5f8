import pytest
import torch
from every_technique import (
    check_resumes_exactly,
    loss_of,
    session_with,
    step_plainly,
    train_by_hand,
    training_differences,
)
from tiny import read_scalars

from torchbase.errors import HookError
from torchbase.hooks import GradientClipping


def test_clipping_by_norm_equals_a_loop_by_hand(tmp_path):
    norms = []

    def step(session, batch):
        loss_of(session, batch).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(session.network.parameters(), 0.5).item())
        session.optimizer.step()
        session.optimizer.zero_grad()

    by_hand = train_by_hand(tmp_path, step)
    session = session_with(tmp_path, GradientClipping(norm=0.5))
    session()
    assert training_differences(session, by_hand) == []
    assert [value for _, value in read_scalars(session.run_dir)["training/gradient_norm/iterations"]] == norms
    assert max(norms) > 0.5
    assert training_differences(session, train_by_hand(tmp_path, step_plainly)) != []


def test_clipping_by_value_equals_a_loop_by_hand_and_logs_the_norm(tmp_path):
    norms = []

    def step(session, batch):
        loss_of(session, batch).backward()
        norms.append(
            torch.cat([parameter.grad.reshape(-1) for parameter in session.network.parameters()]).norm().item()
        )
        torch.nn.utils.clip_grad_value_(session.network.parameters(), 0.01)
        session.optimizer.step()
        session.optimizer.zero_grad()

    by_hand = train_by_hand(tmp_path, step)
    session = session_with(tmp_path, GradientClipping(value=0.01))
    session()
    assert training_differences(session, by_hand) == []
    logged = [value for _, value in read_scalars(session.run_dir)["training/gradient_norm/iterations"]]
    assert logged == pytest.approx(norms, rel=1e-5)


def test_a_resumed_run_continues_exactly(tmp_path):
    check_resumes_exactly(tmp_path, lambda: [GradientClipping(norm=0.5)])


@pytest.mark.parametrize("arguments", [{}, {"norm": 1.0, "value": 1.0}, {"norm": 0.0}, {"value": float("nan")}])
def test_invalid_arguments_raise(arguments):
    with pytest.raises(HookError, match=r"either a norm or a value, above 0.* To fix"):
        GradientClipping(**arguments)
