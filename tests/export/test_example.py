import copy

import pytest
import torch
from tiny import TinySession, config_with

from torchbase import ValidationDatasetsDict
from torchbase.errors import StepError
from torchbase.export.example import network_with_calls
from torchbase.files.bitwise import different_values


class Points(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, row):
        return {"x": torch.full((3,), float(row)), "y": torch.tensor(float(row))}


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        points = Points()
        return (points[row] for row in range(len(points)))


class OfPoints(TinySession):
    kind = Points

    def init_datasets(self):
        return Points(), ValidationDatasetsDict(datasets=(self.kind(),), only_for_demo=(False,), names=("valid",))


class OfStream(OfPoints):
    kind = Stream


class WithoutValidation(TinySession):
    def init_datasets(self):
        return super().init_datasets()[0], ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())


class Pretrained(OfPoints):
    """Its first weights are in a file that is gone when the network is exported."""

    is_gone = False

    def load_pretrained(self, network):
        assert not self.is_gone
        network.load_state_dict({name: value + 1 for name, value in network.state_dict().items()})


class InPieces(TinySession):
    def forward_pass(self, mini_batch):
        return {"output": self.network.layers(mini_batch["x"]).squeeze(1), "target": mini_batch["y"]}


class Twice(TinySession):
    def forward_pass(self, mini_batch):
        return {"output": self.network(self.network(mini_batch["x"])[:, None].expand(-1, 3)), "target": mini_batch["y"]}


def example_of(parent, kind, **session):
    trained = kind(config_with(num_epochs=1, mini_batch_size=8, **session), parent)
    trained()
    before = copy.deepcopy(trained.network.state_dict())
    kind.is_gone = True
    network, calls = network_with_calls(trained._run_directory.path, parent / "network.pt2", "last", kind)
    assert different_values(before, network.state_dict()) == []
    assert not network.training
    return [(tuple(call.args[0].shape), call.kwargs) for call in calls]


@pytest.mark.parametrize(
    ("kind", "session"),
    [
        (OfPoints, {"mini_batch_parts": 4, "dataloader_num_workers": 1}),
        pytest.param(Pretrained, {}, marks=pytest.mark.thorough),
        pytest.param(OfStream, {}, marks=pytest.mark.thorough),
        pytest.param(WithoutValidation, {}, marks=pytest.mark.thorough),
    ],
)
def test_mini_batches_of_two_sizes_pass_through_the_network(tmp_path, kind, session):
    calls = example_of(tmp_path, kind, **session)
    assert {shape for shape, _ in calls} >= {(3, 3), (2, 3)}
    assert len(calls) >= 7


def test_a_forward_pass_that_does_not_call_the_network_is_an_error(tmp_path):
    with pytest.raises(StepError, match=r"InPieces doesn't call self\.network\(…\) itself.*TinyNetwork\.forward"):
        example_of(tmp_path, InPieces)


def test_a_forward_pass_that_calls_the_network_several_times_is_said_once(tmp_path, caplog):
    example_of(tmp_path, Twice)
    (message,) = [one for one in caplog.messages if "calls the network" in one]
    assert message.startswith("forward_pass calls the network 2 times for a mini-batch.")
