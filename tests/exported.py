"""A run whose network is exported, and what loads a file again without torchbase."""

import contextlib
import json
import sys
from unittest.mock import patch

import torch
from datasets import Dataset
from tiny import CONFIG, TinySession

from torchbase import ValidationDatasetsDict
from torchbase.hooks import ExponentialMovingAverage


class TwoInputs(torch.nn.Module):
    """Several inputs, one of them by name; a dictionary of outputs; tied parameters, and buffers of both kinds."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 4)
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.3))
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("shift", torch.tensor(0.5), persistent=False)

    def forward(self, tokens, *, numbers):
        means = self.embedding(tokens).mean(dim=1)
        hidden = self.body(means + self.shift) + (numbers * self.scale).sum(dim=1, keepdim=True)
        return {"hidden": hidden, "logits": self.head(hidden)}


class TwoInputsSession(TinySession):
    def init_datasets(self):
        draw = torch.Generator().manual_seed(1)
        tokens = [torch.randint(5, (3 + row % 4,), generator=draw).tolist() for row in range(16)]
        columns = {"tokens": tokens, "numbers": torch.randn(16, 3, generator=draw).tolist(), "y": [0, 1, 2, 3] * 4}
        dataset = Dataset.from_dict(columns)
        return dataset, ValidationDatasetsDict(datasets=(dataset,), only_for_demo=(False,), names=("valid",))

    def init_network(self):
        return TwoInputs()

    def forward_pass(self, mini_batch):
        longest = max(map(len, mini_batch["tokens"]))
        tokens = torch.tensor([[*one, *[0] * (longest - len(one))] for one in mini_batch["tokens"]])
        return {**self.network(tokens, numbers=mini_batch["numbers"]), "labels": mini_batch["y"]}

    def loss_function(self, *, logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels)


def train(parent, *hooks, **session):
    config = {**CONFIG, "session": {**CONFIG["session"], **session}, "network": {"architecture": "TwoInputs"}}
    trained = TwoInputsSession(config, parent)
    for hook in (ExponentialMovingAverage(0.5), *hooks):
        trained.register(hook)
    trained()
    return trained


def mini_batch_of(samples, length=6):
    draw = torch.Generator().manual_seed(samples)
    return torch.randint(5, (samples, length), generator=draw), torch.randn(samples, 3, generator=draw)


@contextlib.contextmanager
def without_torchbase():
    """Any import of torchbase is an error, also one of a module that is imported already."""
    with patch.dict(sys.modules, {name: None for name in sys.modules if name.partition(".")[0] == "torchbase"}):
        yield


def load_program(path):
    extra = {"torchbase.json": ""}
    with without_torchbase():
        return torch.export.load(path, extra_files=extra).module(), json.loads(extra["torchbase.json"])
