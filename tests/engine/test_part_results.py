import torch

from torchbase import Phase
from torchbase.engine.part_results import PartResults


def test_the_results_of_parts_are_those_of_the_mini_batch():
    phase = Phase("training", (), is_training=True)
    phase.values = {"before": 7.0}
    results = PartResults(phase)
    weight = torch.tensor(2.0, requires_grad=True)
    for samples, loss in ((3, 1.0), (1, 5.0)):
        phase.outputs = {"output": weight * torch.full((samples,), loss)}
        phase.loss = torch.tensor(loss)
        phase.values = {"loss": torch.tensor(loss), "count": samples, **({"once": 4.0} if samples == 1 else {})}
        results.take()
        assert phase.outputs is None
        assert phase.loss is None
        assert phase.values == {}
    results.join([3, 1])
    assert phase.outputs["output"].tolist() == [2.0, 2.0, 2.0, 10.0]
    assert not phase.outputs["output"].requires_grad
    assert phase.loss == 2.0
    assert phase.values == {"before": 7.0, "loss": torch.tensor(2.0), "count": 2.5, "once": 4.0}
