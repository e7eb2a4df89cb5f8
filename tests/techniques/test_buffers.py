import pytest
import torch
from tiny import CONFIG, TinyNetwork, TinySession

from torchbase.techniques.buffers import SavedBuffers, network_restored


class MovingMean(TinyNetwork):
    """Reassigns its buffer in each forward pass."""

    def __init__(self, dropout=0.0):
        super().__init__(dropout)
        self.register_buffer("mean", torch.zeros(3), persistent=False)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return super().forward(x)


MovingMean.__name__ = "TinyNetwork"


def test_buffers_are_restored_after_any_change():
    network = MovingMean()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    saved = SavedBuffers(network)
    for _ in range(2):
        network(torch.randn(4, 3))
    assert all(not torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    saved.restore()
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert len(before) == 4


@pytest.mark.parametrize("without", ["rehearsal", None])
def test_a_rehearsal_restores_buffers_that_are_reassigned(tmp_path, without):
    class MovingMeanSession(TinySession):
        def init_network(self):
            return MovingMean()

    sessions = [MovingMeanSession(CONFIG, tmp_path) for _ in range(2)]
    if without is not None:
        sessions[1].unregister(without)
    for session in sessions:
        session()
    assert torch.equal(sessions[0].network.mean, sessions[1].network.mean)
    assert sessions[0].network.mean.any()


def test_the_mode_of_each_module_is_restored():
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2))
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with network_restored(network):
        network.train()
        network(torch.randn(4, 2))
        network.eval()
    assert [module.training for module in network.modules()] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
