import torch

from torchbase import Phase, Run
from torchbase.checkpoints.forward_state import copier_of
from torchbase.techniques.iteration_state import StateBeforeIteration


def test_an_iteration_can_be_undone_several_times():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    phase = Phase("training", [], is_training=True)
    run = Run(training=phase, max_epochs=1, network=network)
    network[0].weight.grad = torch.ones(2, 2)
    phase.values = {"before": 1.0}
    before = StateBeforeIteration(run, phase, copier_of(run))
    draws = []
    for _ in range(3):
        assert network[0].weight.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]
        assert network[0].bias.grad is None
        assert network[1].running_mean.tolist() == [0.0, 0.0]
        assert (phase.values, phase.outputs, phase.loss) == ({"before": 1.0}, None, None)
        draws.append(torch.rand(()).item())
        phase.outputs = {"output": network(torch.rand(4, 2))}
        phase.loss = phase.outputs["output"].square().sum()
        phase.loss.backward()
        phase.values["loss"] = 2.0
        assert network[1].running_mean.tolist() != [0.0, 0.0]
        before.restore()
    assert len(set(draws)) == 1


def test_in_validation_gradients_are_unchanged():
    network = torch.nn.Linear(2, 2)
    phase = Phase("validation-v", [])
    run = Run(training=phase, max_epochs=1, network=network)
    before = StateBeforeIteration(run, phase, copier_of(run))
    network.weight.grad = torch.ones(2, 2)
    before.restore()
    assert network.weight.grad is not None
