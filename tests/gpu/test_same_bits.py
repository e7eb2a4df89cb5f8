"""Runs on a GPU that are stopped and resumed, repeated, or watched, end with the same bits."""

import pytest
import torch
from every_technique import PlainSession, check_resumes_exactly, final_state_of, session_with
from tiny import TinySession

from torchbase import hooks, isolate_rng
from torchbase.files.bitwise import different_values

TECHNIQUES = {
    "none": list,
    "fp16": lambda: [hooks.MixedPrecision("fp16")],
    "bf16": lambda: [hooks.MixedPrecision("bf16")],
    "average": lambda: [hooks.ExponentialMovingAverage(0.8, use_buffers=True)],
    "accumulation and clipping": lambda: [hooks.GradientAccumulation(2), hooks.GradientClipping(norm=0.5)],
    "activations": lambda: [hooks.ActivationCheckpointing("layers.0")],
    "compile": lambda: [hooks.Compile()],
    "retry": lambda: [hooks.RetryOnOutOfMemory()],
    "fp16 with all": lambda: [
        hooks.MixedPrecision("fp16"),
        hooks.GradientAccumulation(2),
        hooks.GradientClipping(norm=0.5),
        hooks.ExponentialMovingAverage(0.8),
        hooks.LogGradients("2it"),
        hooks.LogWeights("3it"),
    ],
}


@pytest.mark.parametrize("names", TECHNIQUES)
def test_a_run_that_is_stopped_and_resumed_ends_the_same(tmp_path, device_name, names):
    check_resumes_exactly(tmp_path, TECHNIQUES[names], device_name=device_name, deterministic=True)


def test_the_number_of_workers_changes_nothing(tmp_path, device_name):
    ends = []
    for number in (0, 2):
        session = session_with(
            tmp_path / str(number),
            dropout=0.3,
            device_name=device_name,
            deterministic=True,
            dataloader_num_workers=number,
        )
        session()
        ends.append(final_state_of(session))
    assert different_values(*ends) == []


def test_a_checkpoint_of_a_gpu_is_resumed_on_the_cpu(tmp_path, device_name):
    session = session_with(tmp_path, device_name=device_name, num_epochs=1)
    session()
    trained = {name: value.cpu() for name, value in session.network.state_dict().items()}
    config = session._config.as_given
    config["session"] |= {"device_name": "cpu", "num_epochs": 1}
    resumed = TinySession(config, tmp_path, False, session._run_directory.path.name)
    resumed()
    assert different_values(dict(resumed.network.state_dict()), trained) == []


def test_draws_in_isolation_do_not_move_the_stream_of_the_gpu(gpu):
    torch.cuda.manual_seed(5)
    expected = torch.rand(3, device=gpu)
    torch.cuda.manual_seed(5)
    with isolate_rng(gpu):
        torch.rand(7, device=gpu)
    assert torch.equal(torch.rand(3, device=gpu), expected)


def test_fp16_trains_with_a_scaler(tmp_path, device_name):
    session = session_with(tmp_path, hooks.MixedPrecision("fp16"), kind=PlainSession, device_name=device_name)
    summary = session()
    assert 0 < summary.averages["training"]["loss"] < float("inf")
