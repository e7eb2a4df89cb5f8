"""Mini-batches of any type in whole sessions: what a collate function returns in real programs."""

from collections import UserDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from tiny import TinySession, config_with
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from torchbase.errors import StepError


class Encoding(UserDict):
    """A dictionary with attributes, as ``BatchEncoding`` of transformers."""

    def __init__(self, data=None, kind="encoding"):
        super().__init__(data)
        self.kind = kind


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


@dataclass(frozen=True)
class Columns:
    x: torch.Tensor
    y: torch.Tensor


class Graph:
    """An object of its own, as the batches of graph libraries."""

    def __init__(self, x, y):
        self.x, self.y, self.num_graphs = x, y, len(y)

    def to(self, device):
        return Graph(self.x.to(device), self.y.to(device))


KINDS = {
    "tuple": (lambda x, y: (x, y), lambda batch: batch),
    "list": (lambda x, y: [x, y], lambda batch: batch),
    "named tuple": (Pair, lambda batch: (batch.x, batch.y)),
    "dataclass": (Columns, lambda batch: (batch.x, batch.y)),
    "encoding": (lambda x, y: Encoding({"x": x, "y": y}), lambda batch: (batch["x"], batch.data["y"])),
    "graph": (Graph, lambda batch: (batch.x, batch.y)),
    "tensor": (lambda x, y: torch.cat([x, y[:, None]], dim=1), lambda batch: (batch[:, :3], batch[:, 3])),
    "packed": (
        lambda x, y: {"x": pack_sequence(list(x), enforce_sorted=False), "y": y},
        lambda batch: (pad_packed_sequence(batch["x"], batch_first=True)[0], batch["y"]),
    ),
    "nested": (
        lambda x, y: {"y": y, "x": torch.nested.nested_tensor(list(x), layout=torch.jagged)},
        lambda batch: (batch["x"].to_padded_tensor(0.0), batch["y"]),
    ),
}


def session_with(kind, **keys):
    make, unpack = KINDS[kind]

    class AnySession(TinySession):
        kinds = ()

        def dataloader_collate_function(self, batch):
            return make(torch.stack([sample["x"] for sample in batch]), torch.stack([one["y"] for one in batch]))

        def forward_pass(self, mini_batch):
            type(self).kinds = (*self.kinds, type(mini_batch))
            x, y = unpack(mini_batch)
            return {"output": self.network(x), "target": y}

        def init_network(self):
            network = super().init_network()
            network.layers[1] = torch.nn.Identity()  # batch normalization needs more samples than a part may have
            return network

    if kind == "graph":

        class GraphSession(AnySession):
            def infer_mini_batch_size(self, mini_batch):
                return mini_batch.num_graphs

        return GraphSession(config_with(**keys))
    return AnySession(config_with(**keys))


def weights_of(session):
    return {name: values.tolist() for name, values in session.network.state_dict().items()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("expected"))
        found = {}
        for parts in (None, 2):
            session = session_with("tuple", mini_batch_parts=parts)
            session()
            found[parts] = weights_of(session)
        return found


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", [None, 2])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_mini_batch_of_any_type_trains_alike(kind, parts, workers, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = session_with(kind, mini_batch_parts=parts, dataloader_num_workers=workers)
    session()
    assert weights_of(session) == expected[parts]
    assert len({*session.kinds}) == 1
    assert sum(len(outputs["target"]) for outputs in session.predict(session.dataset_train)) == 18


@pytest.mark.parametrize("parts", [None, 2])
def test_an_object_without_a_size_is_refused_before_training(parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Unsized(TinySession):
        def dataloader_collate_function(self, batch):
            return Graph(torch.stack([sample["x"] for sample in batch]), torch.stack([one["y"] for one in batch]))

        def forward_pass(self, mini_batch):
            return {"output": self.network(mini_batch.x), "target": mini_batch.y}

    with pytest.raises(StepError, match="To fix, override infer_mini_batch_size"):
        Unsized(config_with(mini_batch_parts=parts))()
