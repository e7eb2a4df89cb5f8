import copy
import logging
import time

import pytest
import torch
from tiny import CONFIG, StopAt, TinyNetwork, TinySession, config_with

from torchbase import Phase, Run, hookimpl
from torchbase.checkpoints.forward_state import ForwardState, copier_of, forward_undone, hooks_undone
from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.files.bitwise import different_values
from torchbase.hooks import RetryOnOutOfMemory


class Queue:
    """A hook whose state the forward pass changes."""

    name = "queue"

    def __init__(self):
        self.rows = torch.zeros(0, 3)

    @hookimpl
    def on_run_start(self):
        pass

    def state_dict(self):
        return {"rows": self.rows}

    def load_state_dict(self, state):
        self.rows = state["rows"]


class Clock(Queue):
    """A hook whose state changes by itself."""

    name = "clock"

    def state_dict(self):
        return {"time": time.monotonic_ns()}

    def load_state_dict(self, state):
        raise AssertionError("the state of a clock is left alone")


class MomentumNetwork(TinyNetwork):
    """All that a forward pass may change: a momentum encoder, a count that begins as None, one in the extra state."""

    def __init__(self, dropout=0.0):
        super().__init__(dropout)
        self.key = torch.nn.Linear(3, 1).requires_grad_(False)
        self.register_buffer("rows", None)
        self.register_buffer("seen", torch.zeros(0), persistent=False)
        self.calls = 0

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.rows = torch.tensor(float(len(x))) if self.rows is None else self.rows + len(x)
            rows = len(self.seen)
            self.seen.resize_(rows + len(x))[rows:] = x[:, 0].detach()
            with torch.no_grad():
                self.key.weight.lerp_(torch.full((1, 3), float(self.calls)), 0.5)
        return super().forward(x) + self.key(x).squeeze(-1) * min(1.0, self.calls / 10)

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


MomentumNetwork.__name__ = "TinyNetwork"


class MomentumSession(TinySession):
    """A session whose forward pass changes its network and a hook."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.queue = Queue()
        self.register(self.queue)

    def init_network(self):
        return MomentumNetwork()

    def forward_pass(self, mini_batch):
        if self.network.training:
            self.queue.rows = torch.cat([self.queue.rows, mini_batch["x"]])
        return {**super().forward_pass(mini_batch), "queue": self.queue.rows, "name": mini_batch["name"]}

    def loss_function(self, *, output, target, queue, name):
        return (output - target).square().mean() + queue.mean()


class PoisonedSession(MomentumSession):
    """The loss of one mini-batch of each training epoch is NaN."""

    def loss_function(self, *, output, target, queue, name):
        loss = super().loss_function(output=output, target=target, queue=queue, name=name)
        return loss * float("nan") if self.network.training and "5" in name else loss


class OutOfMemorySession(MomentumSession):
    """The first try of each mini-batch with a certain row runs out of memory, after the forward pass."""

    def loss_function(self, *, output, target, queue, name):
        if self.network.training and "5" in name and len(name) > 2:
            raise torch.OutOfMemoryError("too many samples")
        return super().loss_function(output=output, target=target, queue=queue, name=name)


def state_of(session):
    network = session.network
    return {
        "network": network.state_dict(),
        "buffers": dict(network.named_buffers()),
        "optimizer": session.optimizer.state_dict(),
        "queue": session.queue.rows,
    }


def train(tmp_path, kind=MomentumSession, without=(), hooks=(), **session):
    trained = kind(config_with(**session), tmp_path)
    for name in without:
        trained.unregister(name)
    for hook in hooks:
        trained.register(hook)
    trained()
    return trained


def test_a_rehearsal_leaves_no_trace_in_the_network_and_in_hooks(tmp_path):
    with_rehearsal, without = train(tmp_path), train(tmp_path, without=["rehearsal"])
    assert different_values(state_of(with_rehearsal), state_of(without)) == []
    assert with_rehearsal.network.calls > 0


@pytest.mark.parametrize("iterations", [1, 3, 5])
def test_a_resumed_run_is_exact_whatever_the_forward_pass_changes(tmp_path, iterations):
    whole = train(tmp_path)
    stopped = train(tmp_path, hooks=[StopAt(iterations)])
    again = MomentumSession.resume(tmp_path, stopped.run_dir.rpartition("/")[2])
    again()
    different = different_values(state_of(whole), state_of(again))
    assert [name for name in different if "seen" not in name] == []  # no checkpoint has what is not persistent


class Watch:
    """Notes what an iteration without a loss changed."""

    def __init__(self):
        self.session = None
        self.changes = []

    @hookimpl(wrapper=True, tryfirst=True)
    def run_iteration(self, phase):
        before = copy.deepcopy(state_of(self.session))
        result = yield
        if phase.is_training and phase.loss is None:
            self.changes.append(different_values(before, state_of(self.session)))
        return result


def test_a_skipped_mini_batch_leaves_no_trace_in_the_network_and_in_hooks(tmp_path):
    watch = Watch()

    class Watched(PoisonedSession):
        def default_hooks(self):
            return [watch, *super().default_hooks()]

    watch.session = Watched(config_with(nan_policy="skip"), tmp_path)
    watch.session()
    assert watch.changes == [[]] * CONFIG["session"]["num_epochs"]


def test_an_iteration_that_is_retried_begins_with_the_network_and_hooks_as_they_were(tmp_path):
    tries = []

    class Watched(OutOfMemorySession):
        def forward_pass(self, mini_batch):
            if self.network.training:
                names = mini_batch["name"]
                fails = "5" in names and len(names) > 2
                tries.append((fails, (self.network.calls, len(self.queue.rows), len(self.network.seen))))
            return super().forward_pass(mini_batch)

    train(tmp_path, Watched, hooks=[RetryOnOutOfMemory()])
    pairs = [(state, tries[place + 1][1]) for place, (fails, state) in enumerate(tries) if fails]
    assert len(pairs) >= CONFIG["session"]["num_epochs"]
    assert all(first == second for first, second in pairs)


def test_a_hook_whose_state_changes_by_itself_is_left_alone():
    run = Run(training=Phase("training", [], is_training=True), max_epochs=1, network=TinyNetwork(0.0))
    queue = Queue()
    run.hooks = {"clock": Clock(), "queue": queue, "stateless": object()}
    with hooks_undone(run, run.hooks):
        queue.rows = torch.ones(2, 3)
    assert run.hooks_changed_by_forward == ("queue",)
    assert queue.rows.shape == (0, 3)
    before = ForwardState(run, copier_of(run))
    for _ in range(2):
        queue.rows = torch.ones(2, 3)
        before.restore()
        assert queue.rows.shape == (0, 3)


def test_a_network_is_restored_module_by_module():
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2))
    network[1].eval()
    before = copy.deepcopy(network.state_dict())
    with forward_undone(NetworkCopier(network)):
        network.train()
        network(torch.randn(4, 2))
        network.eval()
        with torch.no_grad():
            network[0].weight.add_(1)
    assert [module.training for module in network.modules()] == [True, True, False]
    assert different_values(before, network.state_dict()) == []


def test_a_forward_pass_that_changes_a_trained_parameter_is_named(tmp_path, caplog):
    class Drifting(TinyNetwork):
        def forward(self, x):
            with torch.no_grad():
                self.layers[0].bias.add_(0.1)
            return super().forward(x)

    Drifting.__name__ = "TinyNetwork"

    class DriftingSession(TinySession):
        def init_network(self):
            return Drifting(0.0)

    with caplog.at_level(logging.WARNING, "torchbase"):
        train(tmp_path, DriftingSession, num_epochs=1)
    (said,) = [record.message for record in caplog.records if "requires a gradient" in record.message]
    assert "'layers.0.bias'" in said
