"""The smallest session that trains: what the tests of the session and of the hooks build on."""

import copy

import torch
from datasets import Dataset

from torchbase import TrainingBaseSession, ValidationDatasetsDict, hookimpl

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 2,
        "mini_batch_size": 4,
        "learning_rate": 0.05,
        "seed": 7,
    },
    "network": {"architecture": "TinyNetwork", "dropout": 0.3},
}


def config_with(**session):
    config = copy.deepcopy(CONFIG)
    config["session"].update(session)
    return config


def make_dataset(number_of_rows=18, offset=0.0):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(number_of_rows, 3, generator=generator) + offset
    return Dataset.from_dict({"x": x.tolist(), "y": x.sum(dim=1).tolist(), "name": [str(n) for n in range(len(x))]})


class TinyNetwork(torch.nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, 8),
            torch.nn.BatchNorm1d(8),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(8, 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(1)


class TinySession(TrainingBaseSession):
    def init_datasets(self):
        return make_dataset(), ValidationDatasetsDict(
            datasets=(make_dataset(10, 0.1), make_dataset(6, 5.0)), only_for_demo=(False, True), names=("valid", "demo")
        )

    def init_network(self):
        return TinyNetwork(self.config_network["dropout"])

    def forward_pass(self, mini_batch):
        return {"output": self.network(mini_batch["x"]), "target": mini_batch["y"]}

    def loss_function(self, *, output, target):
        return torch.nn.functional.mse_loss(output, target)

    def init_metrics(self):
        return None


class StopAt:
    """Stops a run behind an iteration of a phase."""

    def __init__(self, iteration, phase="training"):
        self.iteration, self.phase = iteration, phase

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.name == self.phase and phase.progress.iterations == self.iteration:
            run.request_stop("for the test")


class KeepNetworks:
    """Keeps the network of each epoch."""

    def __init__(self):
        self.networks = {}

    @hookimpl
    def on_epoch_end(self, run):
        self.networks[run.epoch] = {name: value.clone() for name, value in run.network.state_dict().items()}


def read_scalars(run_dir):
    """Reads every scalar of a run's event files: by tag, a list of (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }
