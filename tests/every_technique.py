"""Helpers for the tests of the training techniques: a training loop by hand, and comparisons of resumed runs."""

import copy
import math
import warnings
from pathlib import Path

import torch
from tiny import CONFIG, StopAt, TinySession, read_scalars

from torchbase import hookimpl
from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.files.bitwise import different_values


def session_with(parent, *hooks, kind=TinySession, dropout=0.0, metrics=None, **session):
    config = copy.deepcopy(CONFIG)
    config["session"].update(session)
    config["network"] = {"architecture": getattr(kind, "architecture", "TinyNetwork"), "dropout": dropout}
    config["metrics"] = metrics or {}
    created = kind(config, parent)
    for hook in hooks:
        created.register(hook)
    return created


def loss_of(session, batch):
    return session.loss_function(**session.forward_pass(batch))


def train_by_hand(parent, step, kind=TinySession, epochs=2, **config):
    """Trains with a plain PyTorch loop on the mini-batches of a session; step runs one iteration."""
    session = session_with(parent, kind=kind, **config)
    assert session.optimizer.state == {}  # creates the optimizer before the network is used, as in a run
    for epoch in range(1, epochs + 1):
        for batch in session.dataloader_train.mini_batches(epoch):
            session.network.train()
            step(session, batch)
    return session


def step_plainly(session, batch):
    loss_of(session, batch).backward()
    session.optimizer.step()
    session.optimizer.zero_grad()


def training_differences(first, second):
    """Returns the paths of values that differ between the networks and optimizers of two sessions."""
    states = [[session.network.state_dict(), session.optimizer.state_dict()["state"]] for session in (first, second)]
    return different_values(*states)


def final_state_of(session):
    """Returns the final state of a run, including the states of the hooks, except names that contain a time."""
    session._run_directory.writes.wait()
    saved = newest_whole_checkpoint(Path(session.run_dir, "states"))
    best = Path(session.run_dir, "network.pth")
    return {
        "parts": {name: part for name, part in saved.parts["training"].items() if name != "hooks"},
        "hooks": {name: state for name, state in saved.parts["training"]["hooks"].items() if name != "tensorboard"},
        "saved network": saved.parts["network"],
        "network": session.network.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "best network": torch.load(best, weights_only=True) if best.exists() else None,
        "scalars": read_scalars(session.run_dir),
    }


def check_resumes_exactly(parent, make_hooks, stops=(2, 8), kind=TinySession, dropout=0.3, **session):
    """Checks that a run that is stopped and resumed after some iterations equals an uninterrupted run."""
    whole = session_with(parent / "whole", *make_hooks(), kind=kind, dropout=dropout, **session)
    whole()
    stopped = session_with(parent / "stopped", *make_hooks(), kind=kind, dropout=dropout, **session)
    for stop in stops:
        stopped.register(StopAt(stop))
        assert stopped().stop_reason == "for the test"
        assert 0 < stopped._run.progress.mini_batches < len(stopped.dataloader_train)
        stopped = kind.resume(parent / "stopped")
        for hook in make_hooks():
            stopped.register(hook)
    stopped()
    differences = different_values(final_state_of(whole), final_state_of(stopped))
    assert not differences, differences
    return whole


class PlainNetwork(torch.nn.Sequential):
    """A network whose samples don't depend on each other."""

    def __init__(self):
        super().__init__(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1), torch.nn.Flatten(0))


class PlainSession(TinySession):
    architecture = "PlainNetwork"

    def init_network(self):
        return PlainNetwork()

    def init_optimizer(self):
        return torch.optim.SGD(self.network.parameters(), lr=self.config_session.learning_rate, momentum=0.9)


class RecordingTrial:
    """A trial that stores what is reported, warns of a repeated step as Optuna does, and prunes at a step or never."""

    def __init__(self, prune_at=math.inf):
        self.prune_at, self.values, self.asked = prune_at, {}, []

    def report(self, value, step):
        if step in self.values:
            warnings.warn(f"step {step} is already reported", UserWarning, stacklevel=2)
        self.values.setdefault(step, value)

    def should_prune(self):
        self.asked.append(max(self.values))
        return max(self.values) >= self.prune_at


class Recorder:
    """A logging backend that stores histograms and images in memory."""

    def __init__(self):
        self.histograms, self.images = {}, {}

    @hookimpl
    def log_histogram(self, tag, values, step):
        assert (tag, step) not in self.histograms
        self.histograms[tag, step] = values.clone()

    @hookimpl
    def log_image(self, tag, image, step):
        assert (tag, step) not in self.images
        self.images[tag, step] = image.clone()
