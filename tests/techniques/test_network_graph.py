import logging
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tiny import CONFIG, StopAt, TinyNetwork, TinySession, config_with, read_scalars

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import NetworkGraph


class GraphSession(TinySession):
    """Trains a network with one module that stays in evaluation mode."""

    def init_network(self):
        network = TinyNetwork(self.config_network["dropout"])
        network.frozen = torch.nn.BatchNorm1d(3)
        return network

    def forward_pass(self, mini_batch):
        self.network.frozen.eval()
        return super().forward_pass({**mini_batch, "x": self.network.frozen(mini_batch["x"])})


class RecordModes:
    """Records the mode of every module at the end of each iteration."""

    def __init__(self):
        self.modes = []

    @hookimpl(trylast=True)
    def on_iteration_end(self, run):
        self.modes.append([module.training for module in run.network.modules()])


def train(tmp_path, *hooks, kind=TinySession, **session):
    session = kind(config_with(**session), tmp_path)
    for hook in hooks:
        session.register(hook)
    session()
    return session


def graphs_of(session):
    files = sorted(Path(session.run_dir).glob("events*"))
    return [event.graph_def for file in files for event in EventFileLoader(str(file)).Load() if event.graph_def]


def test_tensorboard_shows_the_layers_of_the_network(tmp_path):
    session = train(tmp_path, NetworkGraph())
    names = {node.name for node in EventAccumulator(session.run_dir).Reload().Graph().node}
    for layer in ("Linear[0]", "BatchNorm1d[1]", "Linear[3]"):
        assert any(f"/{layer}/" in name for name in names), names


@pytest.mark.parametrize("kind", [TinySession, GraphSession])
def test_the_hook_changes_neither_weights_nor_values_nor_modes(tmp_path, kind):
    modes, expected = RecordModes(), RecordModes()
    session = train(tmp_path, NetworkGraph(), modes, kind=kind)
    without = train(tmp_path, expected, kind=kind)
    for name, value in without.network.state_dict().items():
        assert torch.equal(value, session.network.state_dict()[name]), name
    assert read_scalars(session.run_dir) == read_scalars(without.run_dir)
    assert modes.modes == expected.modes
    assert not session.network._forward_pre_hooks


class RecordInputs:
    def __init__(self):
        self.inputs = []

    @hookimpl
    def log_graph(self, run, network, inputs):
        assert network is run.network
        assert not torch.is_grad_enabled()
        self.inputs.append(inputs)


def test_the_graph_is_logged_once_with_the_first_inputs(tmp_path):
    class FirstBatch:
        first = None

        @hookimpl
        def on_iteration_start(self, phase, batch):
            if self.first is None and phase.is_training:
                self.first = batch["x"].clone()

    recorder, batches = RecordInputs(), FirstBatch()
    train(tmp_path, NetworkGraph(), recorder, batches)
    ((x,),) = recorder.inputs
    assert torch.equal(x, batches.first)


def test_a_resumed_run_does_not_log_the_graph_again(tmp_path):
    first = train(tmp_path, NetworkGraph(), StopAt(7))
    again = TinySession.resume(tmp_path, Path(first.run_dir).name)
    again.register(NetworkGraph())
    again()
    assert len(graphs_of(again)) == 1


class ByKeyword(TinySession):
    def forward_pass(self, mini_batch):
        return {"output": self.network(x=mini_batch["x"]), "target": mini_batch["y"]}


def test_a_network_with_a_keyword_input_is_supported(tmp_path):
    assert len(graphs_of(train(tmp_path, NetworkGraph(), kind=ByKeyword))) == 1


class ReturnsDictionary(TinyNetwork):
    def forward(self, x):
        return {"output": super().forward(x)}


class Dictionaries(TinySession):
    def init_network(self):
        network = ReturnsDictionary(0.0)
        network.__class__.__name__ = "TinyNetwork"
        return network

    def forward_pass(self, mini_batch):
        return {**self.network(mini_batch["x"]), "target": mini_batch["y"]}


def test_a_network_that_returns_a_dictionary_is_supported(tmp_path):
    assert len(graphs_of(train(tmp_path, NetworkGraph(), kind=Dictionaries))) == 1


class Untraceable(TinySession):
    def init_network(self):
        network = super().init_network()
        network.register_forward_hook(self.refuse)
        return network

    def refuse(self, *arguments):
        if torch.jit.is_tracing():
            raise NotImplementedError("not supported")


class CallsLayers(TinySession):
    def forward_pass(self, mini_batch):
        return {"output": self.network.layers(mini_batch["x"]).squeeze(1), "target": mini_batch["y"]}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Untraceable, "NotImplementedError: not supported"),
        (CallsLayers, "forward_pass doesn't call the network itself"),
    ],
)
def test_a_network_that_cannot_be_traced_causes_a_warning(tmp_path, caplog, capsys, kind, reason):
    with caplog.at_level(logging.WARNING, "torchbase"):
        session = train(tmp_path, NetworkGraph(), kind=kind, on_logging_error="raise")
    assert session._run.epochs_done == 2
    (warning,) = [message for message in caplog.messages if "The graph of the network can't be" in message]
    assert reason in warning
    assert graphs_of(session) == []
    assert "Error occurs" not in capsys.readouterr().out
    plain = train(tmp_path, kind=kind)
    assert read_scalars(session.run_dir) == read_scalars(plain.run_dir)


def test_an_error_in_the_first_iteration_removes_the_forward_pre_hook(tmp_path):
    class Failing(TinySession):
        def loss_function(self, *, output, target):
            raise KeyError

    session = Failing(CONFIG, tmp_path)
    session.unregister("rehearsal")
    session.register(NetworkGraph())
    with pytest.raises(KeyError):
        session()
    assert not session.network._forward_pre_hooks


def test_a_run_without_a_network_logs_no_graph():
    recorder = RecordInputs()
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    Engine(lambda run, phase, batch: None, hooks=[NetworkGraph(), recorder]).run(run)
    assert recorder.inputs == []
