import copy
import shutil
from pathlib import Path

import pytest
import torch
from every_technique import PlainSession, check_resumes_exactly, learnt_differently, session_with
from tiny import TinySession, make_dataset

from torchbase import ValidationDatasetsDict
from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.hooks import Compile


@pytest.fixture(autouse=True)
def _forget_what_was_compiled():
    torch.compiler.reset()


class CountingBackend:
    """Runs what it compiles as it is, and counts how often it compiled."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, inputs):
        self.graphs.append([tuple(one.shape) for one in inputs])
        return graph.forward


def test_what_it_learns_is_what_the_network_learns_without_it(tmp_path):
    plain = session_with(tmp_path)
    plain()
    session = session_with(tmp_path, Compile(backend="eager"))
    session()
    assert learnt_differently(session, plain) == []


def test_it_learns_what_the_network_compiled_by_hand_learns(tmp_path):
    class CompiledByHand(TinySession):
        def init_network(self):
            network = super().init_network()
            network.compile(backend="aot_eager", dynamic=False)
            return network

    by_hand = session_with(tmp_path, kind=CompiledByHand, dropout=0.3)
    by_hand()
    torch.compiler.reset()
    session = session_with(tmp_path, Compile(backend="aot_eager"), dropout=0.3)
    session()
    assert learnt_differently(session, by_hand) == []


def test_each_shape_is_compiled_once_for_training_and_once_for_validation(tmp_path):
    backend = CountingBackend()
    session_with(tmp_path, Compile(backend=backend), num_epochs=3)()
    # Mini-batches of 4 and 2, of training and of both validation sets.
    assert len(backend.graphs) == 4


def test_checkpoints_and_the_best_network_have_plain_names(tmp_path):
    session = session_with(tmp_path, Compile(backend="eager"))
    session()
    names = list(session_with(tmp_path).network.state_dict())
    best = torch.load(Path(session.run_dir, "network.pth"), weights_only=True)
    kept = newest_whole_checkpoint(Path(session.run_dir, "states"))
    assert list(best) == list(kept.parts["network"]) == names
    assert type(session._run.network).__name__ == "TinyNetwork"
    assert copy.deepcopy(session.network).state_dict().keys() == best.keys()


def test_a_resumed_run_goes_on_exactly(tmp_path):
    def hooks():
        torch.compiler.reset()  # as in a process of its own
        return [Compile(backend="aot_eager")]

    check_resumes_exactly(tmp_path, hooks, stops=(2, 9))


def test_a_run_goes_on_without_compiling_where_one_with_it_ended(tmp_path):
    whole = session_with(tmp_path / "whole", num_epochs=3)
    whole()
    session_with(tmp_path / "begun", Compile(backend="eager"), num_epochs=1)()
    config = {**whole._config.as_given, "session": {**whole._config.as_given["session"]}}
    tag = next((tmp_path / "begun").iterdir()).name
    resumed = TinySession(config, tmp_path / "begun", create_run_dir_afresh=False, source_run_dir_tag=tag)
    resumed()
    assert learnt_differently(resumed, whole) == []


def test_a_session_that_is_called_twice_is_compiled_once(tmp_path):
    backend = CountingBackend()
    session = session_with(tmp_path, Compile(backend=backend))
    session()
    compiled = len(backend.graphs)
    session._run.max_epochs = 3
    session()
    assert len(backend.graphs) == compiled


class OneShape(PlainSession):
    """Little to compile: a few layers, and mini-batches of one size, all of them of training."""

    def init_datasets(self):
        return make_dataset(16), ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())


@pytest.mark.skipif(shutil.which("g++") is None, reason="the default backend needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_with_the_default_backend_a_resumed_run_goes_on_exactly(tmp_path):
    check_resumes_exactly(tmp_path, lambda: [Compile()], kind=OneShape, stops=(3,))
