import copy
import shutil
from pathlib import Path

import pytest
import torch
from every_technique import PlainSession, check_resumes_exactly, session_with, training_differences
from tiny import TinySession, make_dataset

from torchbase import ValidationDatasetsDict
from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.hooks import Compile


@pytest.fixture(autouse=True)
def _reset_the_compiler():
    torch.compiler.reset()


class CountingBackend:
    """Runs graphs unchanged, and records their input shapes."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, inputs):
        self.graphs.append([tuple(tensor.shape) for tensor in inputs])
        return graph.forward


def test_a_compiled_network_trains_like_the_plain_network(tmp_path):
    plain = session_with(tmp_path)
    plain()
    session = session_with(tmp_path, Compile(backend="eager"))
    session()
    assert training_differences(session, plain) == []


def test_training_equals_a_network_compiled_by_hand(tmp_path):
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
    assert training_differences(session, by_hand) == []


def test_each_shape_is_compiled_once_for_training_and_once_for_validation(tmp_path):
    backend = CountingBackend()
    session_with(tmp_path, Compile(backend=backend), num_epochs=3)()
    # Mini-batches of 4 and of 2 samples, each in training and in validation.
    assert len(backend.graphs) == 4


def test_checkpoints_and_the_best_network_have_plain_names(tmp_path):
    session = session_with(tmp_path, Compile(backend="eager"))
    session()
    names = list(session_with(tmp_path).network.state_dict())
    best = torch.load(Path(session.run_dir, "network.pth"), weights_only=True)
    saved = newest_whole_checkpoint(Path(session.run_dir, "states"))
    assert list(best) == list(saved.parts["network"]) == names
    assert type(session._run.network).__name__ == "TinyNetwork"
    assert copy.deepcopy(session.network).state_dict().keys() == best.keys()


def test_a_resumed_run_continues_exactly(tmp_path):
    def hooks():
        torch.compiler.reset()  # as in a new process
        return [Compile(backend="aot_eager")]

    check_resumes_exactly(tmp_path, hooks, stops=(2, 9))


def test_a_run_can_be_resumed_without_compilation(tmp_path):
    whole = session_with(tmp_path / "whole", num_epochs=3)
    whole()
    session_with(tmp_path / "first", Compile(backend="eager"), num_epochs=1)()
    config = {**whole._config.as_given, "session": {**whole._config.as_given["session"]}}
    tag = next((tmp_path / "first").iterdir()).name
    resumed = TinySession(config, tmp_path / "first", create_run_dir_afresh=False, source_run_dir_tag=tag)
    resumed()
    assert training_differences(resumed, whole) == []


def test_a_session_that_is_called_twice_is_compiled_once(tmp_path):
    backend = CountingBackend()
    session = session_with(tmp_path, Compile(backend=backend))
    session()
    compiled = len(backend.graphs)
    session._run.max_epochs = 3
    session()
    assert len(backend.graphs) == compiled


class OneShape(PlainSession):
    """Needs little compilation: a few layers, one mini-batch size, and no validation."""

    def init_datasets(self):
        return make_dataset(16), ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())


@pytest.mark.skipif(shutil.which("g++") is None, reason="the default backend needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_with_the_default_backend_a_resumed_run_continues_exactly(tmp_path):
    check_resumes_exactly(tmp_path, lambda: [Compile()], kind=OneShape, stops=(3,))
