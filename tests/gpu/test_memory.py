"""A GPU whose memory runs out."""

import torch
from every_technique import PlainNetwork, PlainSession, session_with, training_differences

from torchbase import hooks


class Greedy(PlainNetwork):
    """Needs more memory than the GPU has for more than two samples."""

    def forward(self, x):
        if x.is_cuda:
            total = torch.cuda.get_device_properties(x.device).total_memory
            torch.empty(total * len(x) // 3, dtype=torch.uint8, device=x.device)
        return super().forward(x)


class GreedySession(PlainSession):
    architecture = "Greedy"

    def init_network(self):
        return Greedy()


def test_a_mini_batch_that_does_not_fit_is_trained_in_parts(tmp_path, gpu, caplog):
    with caplog.at_level("INFO", "torchbase"):
        retried = session_with(
            tmp_path / "retried", hooks.RetryOnOutOfMemory(), kind=GreedySession, device_name=str(gpu)
        )
        retried()
    assert "don't fit into memory; computed in" in caplog.text
    whole = session_with(tmp_path / "whole", kind=PlainSession, device_name=str(gpu))
    whole()
    for path in training_differences(whole, retried):
        assert "step" not in path
    for first, second in zip(whole.network.parameters(), retried.network.parameters(), strict=True):
        torch.testing.assert_close(first, second)
