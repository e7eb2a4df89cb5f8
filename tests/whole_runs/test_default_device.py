"""Runs on the CPU in a program with another default device: "meta", which every machine has, and holds no values."""

import pytest
import torch
from every_technique import final_state_of, session_with
from tiny import StopAt, TinyNetwork, TinySession

from torchbase import hooks as techniques
from torchbase.files.bitwise import different_values


class OnTheCpu(TinySession):
    def init_network(self):
        with torch.device("cpu"):
            return TinyNetwork(self.config_network["dropout"])

    def forward_pass(self, mini_batch):
        return {**super().forward_pass(mini_batch), "picture": mini_batch["x"][:, None]}


class OnAStream(OnTheCpu):
    def init_datasets(self):
        training, validation = super().init_datasets()
        with torch.device("cpu"):
            return training.select(range(16)).to_iterable_dataset(num_shards=2), validation


class Collating(OnTheCpu):
    def dataloader_collate_function(self, batch):
        return {name: torch.stack([row[name] for row in batch]) for name in ("x", "y")}


def every_hook():
    return [
        techniques.GradientAccumulation(2),
        techniques.ExponentialMovingAverage(0.8, use_buffers=True),
        techniques.MixedPrecision("bf16"),
        techniques.GradientClipping(norm=0.5),
        techniques.LogGradients("2it"),
        techniques.LogWeights("3it"),
        techniques.Fingerprint("2it"),
        techniques.LogSamples(2, ["picture"]),
        techniques.LearningRateSchedule(
            lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9), "1it"
        ),
        techniques.RetryOnOutOfMemory(),
    ]


def stopped_and_resumed(kind, parent, workers):
    for tag in (None, "resumed"):
        if tag is None:
            session = session_with(parent, *every_hook(), StopAt(3), kind=kind, dataloader_num_workers=workers)
        else:
            session = kind.resume(parent)
            for hook in every_hook():
                session.register(hook)
        session()
    return final_state_of(session)


@pytest.mark.parametrize(("kind", "workers"), [(OnTheCpu, 0), (Collating, 2), (OnAStream, 1)])
def test_the_default_device_changes_nothing(tmp_path, kind, workers):
    kind.architecture = "TinyNetwork"
    plain = stopped_and_resumed(kind, tmp_path / "plain", workers)
    torch.set_default_device("meta")
    try:
        other = stopped_and_resumed(kind, tmp_path / "other", workers)
    finally:
        torch.set_default_device(None)
    assert different_values(plain, other) == []
