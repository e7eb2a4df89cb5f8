"""The runs to kill. They use all kinds of randomness, on data so small that a run takes a second."""

import copy
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tiny import TinyNetwork, TinySession
from torch.utils.data import DataLoader

from torchbase import TrainingBaseSession, ValidationDatasetsDict, hookimpl
from torchbase.data import MiniBatchPart, SplitMiniBatch
from torchbase.hooks import (
    ActivationCheckpointing,
    ClosureStep,
    Compile,
    ExponentialMovingAverage,
    Freeze,
    GradientAccumulation,
    GradientClipping,
    LearningRateSchedule,
    MixedPrecision,
    SharpnessAwareMinimization,
    Unfreeze,
)

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 3,
        "mini_batch_size": 4,
        "learning_rate": 0.05,
        "seed": 5,
        "checkpoint_every_n_iterations": 2,
    },
    "network": {"architecture": "TinyNetwork", "dropout": 0.3},
}
ROWS = 40
NAME = "named-run"


def augment(batch):
    """A transform that draws from three random streams."""
    rows = [torch.tensor(row) for row in batch["x"]]
    for number, row in enumerate(rows):
        row += 0.1 * torch.randn(3)
        row *= 1 + 0.1 * np.random.standard_normal()
        if random.random() < 0.5:
            rows[number] = row.flip(0)
    return {"x": torch.stack(rows), "y": torch.tensor(batch["y"]), "row": torch.tensor(batch["row"])}


def make_dataset(rows, seed):
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))
    return Dataset.from_dict({"x": x.tolist(), "y": x.sum(dim=1).tolist(), "row": list(range(rows))})


class KilledSession(TinySession):
    """Dropout, batch normalization, random augmentation, two validation sets that vote and one only for demo."""

    def init_datasets(self):
        valid = make_dataset(11, 2)
        valid_augmented = make_dataset(11, 2)
        valid_augmented.set_transform(augment)
        train = make_dataset(ROWS, 1)
        train.set_transform(augment)
        return train, ValidationDatasetsDict(
            datasets=(valid, valid_augmented, make_dataset(6, 3)),
            only_for_demo=(False, False, True),
            names=("valid", "augmented", "demo"),
        )

    def init_optimizer(self):
        return torch.optim.SGD(self.network.parameters(), lr=self.config_session.learning_rate, momentum=0.9)


class ValidatedWithinSession(KilledSession):
    """Validates within epochs: two sets after the same iterations and one after others."""

    def init_datasets(self):
        train, validation = super().init_datasets()
        return train, replace(validation, every=("5it", "5it", "7it"))


class StreamSession(KilledSession):
    """Trains on a stream of four shards."""

    def init_datasets(self):
        train, validation = super().init_datasets()
        train.reset_format()
        return train.to_iterable_dataset(num_shards=4).map(add_noise, batched=True, batch_size=1), validation


class StockLoaderSession(KilledSession):
    """The same with a loader of torch, which shuffles and collates with draws of its own."""

    def init_dataloaders(self):
        _, validation = super().init_dataloaders()
        workers = self.config_session.dataloader_num_workers
        # Sample by sample, so that the transform draws for each.
        return DataLoader(self.dataset_train, 4, shuffle=True, num_workers=workers), validation


class MomentumNetwork(TinyNetwork):
    """A network whose forward pass changes it: a momentum encoder, an extra state, a buffer that begins as None."""

    def __init__(self, dropout):
        super().__init__(dropout)
        self.key = torch.nn.Linear(3, 1).requires_grad_(False)
        self.register_buffer("rows", None)
        self.calls = 0

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.rows = torch.tensor(float(len(x))) if self.rows is None else self.rows + len(x)
            with torch.no_grad():
                self.key.weight.lerp_(x.mean(0, keepdim=True), 0.1)
        return super().forward(x) + self.key(x).squeeze(-1) * min(1.0, self.calls / 30)

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


MomentumNetwork.__name__ = "TinyNetwork"  # as the config names it


class MomentumSession(KilledSession):
    """The same with such a network."""

    def init_network(self):
        return MomentumNetwork(self.config_network["dropout"])


class TeacherNetwork(TinyNetwork):
    """A network with a frozen part in evaluation mode, which has dropout and batch normalization."""

    def __init__(self, dropout):
        super().__init__(dropout)
        self.teacher = TinyNetwork(0.5).requires_grad_(False).eval()

    def forward(self, x):
        return super().forward(x) + self.teacher(x)


class LazyNetwork(torch.nn.Sequential):
    """A network whose modules find their number of inputs in the first forward pass."""

    def __init__(self, dropout):
        nn = torch.nn
        super().__init__(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Dropout(dropout), nn.LazyLinear(1), nn.Flatten(0))


class Adversaries(torch.nn.Module):
    """A generator with buffers, and a discriminator that draws random numbers."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.generator = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
        self.discriminator = nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(), nn.Dropout(0.3), nn.Linear(6, 1))


Adversaries.__name__ = TeacherNetwork.__name__ = LazyNetwork.__name__ = "TinyNetwork"


class TeacherSession(KilledSession):
    """The same with a frozen teacher."""

    def init_network(self):
        return TeacherNetwork(self.config_network["dropout"])


class LazySession(KilledSession):
    """The same with lazy modules."""

    def init_network(self):
        return LazyNetwork(self.config_network["dropout"])


class GroupsSession(KilledSession):
    """The same with parameter groups that have values of their own, which a schedule changes."""

    def init_optimizer(self):
        parameters = dict(self.network.named_parameters())
        biases = [parameters.pop(name) for name in list(parameters) if name.endswith("bias")]
        groups = [{"params": list(parameters.values())}, {"params": biases, "weight_decay": 0.0, "lr": 0.01}]
        return torch.optim.AdamW(groups, lr=self.config_session.learning_rate, weight_decay=0.1)

    def init_scheduler(self):
        rates = [lambda epoch: 0.5**epoch, lambda epoch: 0.9**epoch]
        return torch.optim.lr_scheduler.LambdaLR(self.optimizer, rates)


class AdversarialSession(KilledSession):
    """Two optimizers of two kinds, of which one trains in every second iteration, each with a schedule."""

    def init_network(self):
        return Adversaries()

    def init_optimizer(self):
        rate, network = self.config_session.learning_rate, self.network
        return {
            "discriminator": torch.optim.Adam(network.discriminator.parameters(), rate),
            "generator": torch.optim.SGD(network.generator.parameters(), rate, momentum=0.9),
        }

    def init_scheduler(self):
        decay = torch.optim.lr_scheduler.ExponentialLR
        return {
            "discriminator": decay(self.optimizer["discriminator"], 0.5),
            "generator": LearningRateSchedule(partial(decay, gamma=0.97), "1it"),
        }

    def optimizer_turns(self, iteration):
        return ["discriminator", "generator"] if iteration % 2 == 0 else ["discriminator"]

    def forward_pass(self, mini_batch):
        generated = self.network.generator(torch.randn(len(mini_batch["x"]), 2))
        real = self.network.discriminator(mini_batch["x"])
        return {"generated": self.network.discriminator(generated), "real": real}

    def loss_function(self, *, generated, real):
        logits = -generated if self.turn == "generator" else torch.cat([generated, -real])
        return torch.nn.functional.softplus(logits).mean()


class LbfgsSession(KilledSession):
    """An optimizer that evaluates the loss several times in a step."""

    def init_optimizer(self):
        return torch.optim.LBFGS(self.network.parameters(), lr=0.1, max_iter=3, history_size=4)


def add_noise(batch):
    noise = 0.1 * torch.randn(3) + 0.1 * float(np.random.standard_normal()) + 0.1 * random.random()
    return {"x": [(torch.tensor(row) + noise).tolist() for row in batch["x"]]}


class Schedule:
    """A scheduler that is stepped with the optimizer."""

    def __init__(self):
        self._scheduler = self._saved = None

    @hookimpl
    def on_run_start(self, run):
        self._scheduler = torch.optim.lr_scheduler.ExponentialLR(run.optimizer, 0.97)
        if self._saved is not None:
            self._scheduler.load_state_dict(self._saved)
            for group, rate in zip(run.optimizer.param_groups, self._scheduler.get_last_lr(), strict=True):
                group["lr"] = rate

    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run):
        yield
        self._scheduler.step()

    def state_dict(self):
        return self._scheduler.state_dict()

    def load_state_dict(self, state):
        self._saved = state


class Accumulate:
    """Steps the optimizer at every third iteration."""

    @hookimpl
    def should_step_optimizer(self, run):
        return (run.progress.iterations + 1) % 3 == 0


class DrawRandomNumbers:
    """A hook that draws from every random stream at every event of the loop."""

    @hookimpl
    def on_phase_start(self):
        draw()

    @hookimpl
    def on_iteration_start(self):
        draw()

    @hookimpl
    def on_loss_computed(self):
        draw()

    @hookimpl
    def on_gradients_ready(self):
        draw()

    @hookimpl
    def on_iteration_end(self):
        draw()

    @hookimpl
    def on_values_read(self):
        draw()

    @hookimpl
    def on_phase_end(self):
        draw()

    @hookimpl
    def on_epoch_end(self):
        draw()


def draw():
    torch.rand(2)
    np.random.random(3)
    random.random()


class NoteOrder:
    """Appends the rows of each part of a training mini-batch and their content to a file that survives a kill."""

    def __init__(self, file):
        self._file = file

    @hookimpl
    def on_iteration_start(self, run, phase, batch):
        if phase.is_training:
            parts = batch.parts if isinstance(batch, SplitMiniBatch) else [MiniBatchPart(0, batch)]
            for number, part in parts:
                content = part["x"].double().sum().item().hex()
                self._append(f"{phase.progress.iterations + 1}.{number} {part['row'].tolist()} {content}\n")

    def _append(self, line):
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Scenario:
    """A kind of run, and the numbers of workers and processes of its lives.

    Attributes:
        workers: The number of workers of the first life, the second life and so on, repeated.
        kind: The class of the session.
        hooks: Functions that make the hooks to register after the default hooks.
        parts: The number of parts of each mini-batch; None for whole mini-batches.
        processes: The number of processes of each life, repeated.
        mini_batch_size: The number of samples of a mini-batch.
        distributed: How the processes of each life hold the network, repeated.
        is_named: Whether each life begins the run by its name, or resumes it.
    """

    workers: tuple[int, ...]
    kind: type[TrainingBaseSession] = KilledSession
    hooks: tuple[Callable[[], object], ...] = (Schedule,)
    parts: int | None = None
    processes: tuple[int, ...] = (1,)
    mini_batch_size: int = 4
    distributed: tuple[str, ...] = ("replicate",)
    is_named: bool = False

    def session(self, parent: Path, life: int, tag: str | None) -> TrainingBaseSession:
        """Starts a run, or resumes the existing one, which has the tag."""
        config = copy.deepcopy(CONFIG)
        config["session"]["dataloader_num_workers"] = self.workers[life % len(self.workers)]
        config["session"].update(mini_batch_parts=self.parts, mini_batch_size=self.mini_batch_size)
        config["session"]["distributed"] = self.distributed[life % len(self.distributed)]
        if self.is_named:
            session = self.kind.begin_or_resume(config, parent, tag=NAME)
        else:
            source = {"create_run_dir_afresh": False, "source_run_dir_tag": tag} if tag is not None else {}
            session = self.kind(config, parent, **source)
        for hook in (*(kind() for kind in self.hooks), NoteOrder(parent / "order.txt")):
            session.register(hook)
        return session


TECHNIQUES = (
    partial(ActivationCheckpointing, "layers.0"),
    partial(GradientAccumulation, 3),
    partial(MixedPrecision, "fp16"),
    partial(GradientClipping, norm=0.5),
    partial(LearningRateSchedule, partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.97), "1it"),
    partial(ExponentialMovingAverage, 0.9),
    partial(Freeze, "layers.0.*", "1ep"),
)
AND_COMPILE = (*TECHNIQUES, partial(Compile, backend="eager"))  # compiled anew in each life, which takes most of it
OF_EACH_OPTIMIZER = (
    partial(GradientAccumulation, 2),
    partial(GradientClipping, norm=0.5),
    partial(ExponentialMovingAverage, 0.9),
)
SCENARIOS = {
    "no workers": Scenario((0,)),
    "2 workers": Scenario((2,)),
    "0, then 2, then 1 workers": Scenario((0, 2, 1)),
    "2, then 0 workers": Scenario((2, 0)),
    "accumulated gradients": Scenario((0,), hooks=(Schedule, Accumulate)),
    "a hook that draws": Scenario((0,), hooks=(Schedule, DrawRandomNumbers)),
    "training techniques": Scenario((0,), kind=ValidatedWithinSession, hooks=AND_COMPILE),
    "validation within epochs": Scenario((0, 2), kind=ValidatedWithinSession),
    "a stream": Scenario((0, 2), kind=StreamSession),
    # The workers of torch's loader draw from streams of their own, so their number is the same in each life.
    "a loader of torch": Scenario((0,), kind=StockLoaderSession),
    "a loader of torch, 2 workers": Scenario((2,), kind=StockLoaderSession),
    "a momentum encoder": Scenario((0,), kind=MomentumSession),
    "a frozen teacher": Scenario((0,), kind=TeacherSession),
    "a teacher that is unfrozen": Scenario((0,), TeacherSession, (Schedule, partial(Unfreeze, "teacher.*.3.*", "1ep"))),
    "a lazy network": Scenario((0, 2), LazySession, (Schedule, partial(ExponentialMovingAverage, 0.9))),
    "parameter groups": Scenario((0,), kind=GroupsSession, hooks=()),
    "several optimizers": Scenario((0, 2), AdversarialSession, OF_EACH_OPTIMIZER),
    "several optimizers in parts": Scenario(
        (0,), AdversarialSession, OF_EACH_OPTIMIZER, parts=4, processes=(2, 1, 3), mini_batch_size=8
    ),
    "a closure": Scenario((0, 2), LbfgsSession, (ClosureStep, partial(ExponentialMovingAverage, 0.9))),
    "sharpness": Scenario((0,), hooks=(Schedule, SharpnessAwareMinimization, partial(GradientAccumulation, 3))),
    "mini-batches in parts": Scenario((0, 2), kind=ValidatedWithinSession, hooks=TECHNIQUES, parts=2),
    "a run by its name": Scenario((0, 2), kind=ValidatedWithinSession, is_named=True),
    "several processes, by name": Scenario(
        (0,), ValidatedWithinSession, TECHNIQUES, parts=4, processes=(2, 1, 3), mini_batch_size=8, is_named=True
    ),
    "several processes": Scenario(
        (0, 0, 2), ValidatedWithinSession, AND_COMPILE, parts=4, processes=(2, 1, 3), mini_batch_size=8
    ),
    "a sharded network": Scenario(
        (0, 0, 2, 0),
        ValidatedWithinSession,
        (Schedule, partial(GradientAccumulation, 3), partial(ExponentialMovingAverage, 0.9)),
        parts=4,
        processes=(2, 4, 2, 1),
        mini_batch_size=8,
        distributed=("shard", "shard", "replicate"),
    ),
}
