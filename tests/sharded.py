"""Runs whose network is sharded over processes, for tests, and a network with every kind of parameter."""

from pathlib import Path

import torch
from every_technique import Recorder, session_with
from whole_runs.test_several_processes import Session

from torchbase.distributed.shards import whole_of
from torchbase.run_directory.fingerprints import FINGERPRINTS_FILE


def whole(value):
    """Returns nested values with whole tensors in place of shards. All processes have to call it."""
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [whole(one) for one in value]
    return whole_of(value).detach().clone() if isinstance(value, torch.Tensor) else value


def trained(parent, case, distributed="shard"):
    recorder = Recorder()
    settings = {"mini_batch_size": 20, "mini_batch_parts": case.parts, "distributed": distributed, **case.settings}
    session = session_with(
        parent, *case.hooks(), recorder, kind=case.kind, dropout=0.3, metrics=case.metrics, **settings
    )
    session.unregister("checkpoint")
    session.unregister("best_validation")
    return session, session(), recorder


def fingerprints_of(session):
    """Returns the lines that the hook `Fingerprint` has written; none if it isn't registered."""
    file = Path(session.run_dir, FINGERPRINTS_FILE)
    return file.read_text().splitlines() if file.exists() else []


def train(index, parent, case, distributed="shard"):
    session, summary, recorder = trained(parent, case, distributed)
    averages = session.hooks.get("exponential_moving_average")
    state = {
        "network": whole(dict(session.network.state_dict())),
        "optimizer": whole(session.optimizer.state_dict()["state"]),
        "moving averages": None if averages is None else whole(dict(averages.state_dict())),
        "averages": {phase: dict(averages) for phase, averages in summary.averages.items()},
        "stop": summary.stop_reason,
    }
    if index == 0:
        state |= {
            "histograms": recorder.histograms,
            "images": recorder.images,
            "fingerprints": fingerprints_of(session),
        }
    return state


class Blocks(torch.nn.Module):
    """Layers that occur several times, and what is special about a network in one place each."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 8)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Tanh()) for _ in range(3)
        )
        self.last = torch.nn.Linear(8, 8)
        self.last.weight = self.first_square = torch.nn.Parameter(torch.randn(8, 8))  # tied
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.no_rows = torch.nn.Parameter(torch.zeros(0, 3))
        self.one_row = torch.nn.Parameter(torch.randn(1, 8))
        self.frozen = torch.nn.Parameter(torch.randn(5, 8), requires_grad=False)
        self.unused = torch.nn.Parameter(torch.randn(5))
        self.register_buffer("shift", torch.randn(8), persistent=False)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x) @ self.first_square
        x = (self.last(x) + self.shift + self.no_rows.sum()) * self.scale + self.one_row
        return (x * self.frozen.mean(dim=0)).sum(dim=1).clone()


class BlocksSession(Session):
    architecture = "Blocks"

    def init_network(self):
        return Blocks()
