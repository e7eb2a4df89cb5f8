import pytest
import torch
from every_technique import (
    PlainSession,
    Recorder,
    check_resumes_exactly,
    loss_of,
    session_with,
    train_by_hand,
    training_differences,
)

from torchbase.errors import HookError, IntervalError
from torchbase.files.bitwise import different_values
from torchbase.hooks import GradientAccumulation, GradientClipping, LogGradients

HISTOGRAMS = {"histograms": 0}  # no limit


def gradients_by_hand(tmp_path, clip, **config):
    iterations, gradients = [], {}

    def step(session, batch):
        iterations.append(batch)
        loss_of(session, batch).backward()
        torch.nn.utils.clip_grad_norm_(session.network.parameters(), clip)
        for name, parameter in session.network.named_parameters():
            gradients[f"training/gradients/{name}/iterations", len(iterations)] = parameter.grad.reshape(-1).clone()
        session.optimizer.step()
        session.optimizer.zero_grad()

    return train_by_hand(tmp_path, step, **config), gradients


@pytest.mark.parametrize("is_listed_first", [False, True])
def test_the_gradients_that_the_optimizer_uses_are_logged(tmp_path, is_listed_first):
    by_hand, gradients = gradients_by_hand(tmp_path, 0.1)
    hooks = [GradientClipping(norm=0.1), LogGradients("3it"), recorder := Recorder()]
    session = session_with(tmp_path, *(hooks[::-1] if is_listed_first else hooks))
    session()
    assert training_differences(session, by_hand) == []
    expected = {key: value for key, value in gradients.items() if key[1] in (3, 6, 9)}
    assert different_values(recorder.histograms, expected) == []


def test_without_a_step_in_a_due_iteration_the_next_step_is_logged(tmp_path):
    hooks = [GradientAccumulation(4), LogGradients("3it", "*.bias"), recorder := Recorder()]
    session_with(tmp_path, *hooks, kind=PlainSession, num_epochs=3)()
    # The optimizer steps in the iterations 4, 5, 9, 10, 14 and 15.
    assert sorted({step for _, step in recorder.histograms}) == [4, 9, 14, 15]
    assert {tag for tag, _ in recorder.histograms} == {f"training/gradients/{name}.bias/iterations" for name in "02"}


def test_event_files_hold_the_histograms_and_a_resumed_run_continues_exactly(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    whole = check_resumes_exactly(tmp_path, lambda: [LogGradients("4it")], stops=(1, 6, 9))
    for run_dir in (whole.run_dir, next((tmp_path / "stopped").iterdir())):
        accumulator = EventAccumulator(str(run_dir), HISTOGRAMS).Reload()
        histograms = accumulator.Histograms("training/gradients/layers.0.weight/iterations")
        assert [(entry.step, entry.histogram_value.num) for entry in histograms] == [(4, 24), (8, 24)]


def test_invalid_arguments_raise(tmp_path):
    with pytest.raises(IntervalError, match="isn't possible here"):
        LogGradients("1ep")
    with pytest.raises(HookError, match="No parameter of TinyNetwork matches"):
        session_with(tmp_path, LogGradients(pattern="encoder.*"))()
