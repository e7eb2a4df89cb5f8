import copy
import random

import numpy as np
import pytest
import torch
from every_technique import check_resumes_exactly, session_with, training_differences
from tiny import TinyNetwork, TinySession

from torchbase import hookimpl
from torchbase.errors import HookError
from torchbase.hooks import ActivationCheckpointing, Compile, ExponentialMovingAverage, GradientAccumulation


class Doubling(torch.nn.Module):
    """Its output depends on a buffer that each pass changes in place, and on one that each pass replaces."""

    def __init__(self):
        super().__init__()
        self.register_buffer("factor", torch.ones(()))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        output = x * (self.factor + 0.01 * self.calls)
        if self.training:
            self.factor.mul_(1.01)
            self.calls = self.calls + 1
        return output


class Drawing(torch.nn.Module):
    """Its output depends on numbers from the streams of Python and numpy."""

    def forward(self, x):
        return x * (1 + 0.1 * random.random() + 0.1 * np.random.rand() + 0.1 * np.random.randn())


class Network(TinyNetwork):
    def __init__(self, dropout):
        super().__init__(dropout)
        self.layers.insert(1, Doubling())
        self.layers.insert(2, torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(dropout)))


class Session(TinySession):
    architecture = "Network"

    def init_network(self):
        return Network(self.config_network["dropout"])


class DrawingNetwork(Network):
    def __init__(self, dropout):
        super().__init__(dropout)
        self.layers.insert(3, Drawing())


class DrawingSession(TinySession):
    architecture = "DrawingNetwork"

    def init_network(self):
        return DrawingNetwork(self.config_network["dropout"])


@pytest.mark.parametrize("pattern", ["layers", "layers.*", "layers.[1-3]"])
@pytest.mark.parametrize("others", [(), (lambda: GradientAccumulation(2), lambda: ExponentialMovingAverage(0.9))])
@pytest.mark.parametrize("parts", [None, 2])
def test_training_has_the_same_bits_as_without(tmp_path, pattern, others, parts):
    def trained(*hooks):
        hooks = [*hooks, *(make() for make in others)]
        settings = {"dropout": 0.5, "mini_batch_size": 6, "mini_batch_parts": parts}
        session = session_with(tmp_path, *hooks, kind=DrawingSession, **settings)
        return session, session().averages

    (session, averages), (plain, averages_of_plain) = trained(ActivationCheckpointing(pattern)), trained()
    assert training_differences(session, plain) == []
    assert averages == averages_of_plain  # with those of validation


class CountKept:
    """Counts the numbers that autograd keeps for the backward passes of training iterations."""

    def __init__(self):
        self.kept, self._hooks = [], None

    @hookimpl
    def on_iteration_start(self, phase):
        if phase.is_training:
            self.kept.append(0)
            self._hooks = torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor)
            self._hooks.__enter__()

    @hookimpl
    def on_loss_computed(self, phase):
        if phase.is_training:
            self._hooks.__exit__()

    def _note(self, tensor):
        self.kept[-1] += tensor.numel()
        return tensor


class DeepSession(TinySession):
    architecture = "Sequential"

    def init_network(self):
        blocks = [torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh()) for _ in range(8)]
        return torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Sequential(*blocks), torch.nn.Linear(16, 1))

    def forward_pass(self, mini_batch):
        return {"output": self.network(mini_batch["x"]).squeeze(1), "target": mini_batch["y"]}


def test_activations_within_modules_are_not_kept(tmp_path):
    def kept(*hooks):
        session_with(tmp_path, *hooks, count := CountKept(), kind=DeepSession, num_epochs=1)()
        return count.kept

    whole, by_block, at_once = kept(), kept(ActivationCheckpointing("1.*")), kept(ActivationCheckpointing("1"))
    assert all(one < plain for one, plain in zip(by_block, whole, strict=True))
    assert all(one < block for one, block in zip(at_once, by_block, strict=True))


def test_a_resumed_run_continues_exactly(tmp_path):
    check_resumes_exactly(tmp_path, lambda: [ActivationCheckpointing("layers")], kind=Session, dropout=0.5)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of torch, after what it can't compile
@pytest.mark.parametrize(("pattern", "is_compiled"), [("layers", False), ("layers.2", True)])
def test_a_compiled_network_trains_the_same_and_leaves_out_modules_with_buffers(tmp_path, pattern, is_compiled):
    def trained(*hooks):
        torch.compiler.reset()
        session = session_with(tmp_path, *hooks, kind=Session, dropout=0.5)
        session()
        return session

    compiled = Compile(backend="aot_eager")
    plain = trained(*([Compile(backend="aot_eager")] if is_compiled else []))
    assert training_differences(trained(ActivationCheckpointing(pattern), compiled), plain) == []


class Copies:
    """Copies the network, and checks that the copy computes with its own parameters."""

    def __init__(self):
        self.copies = []

    @hookimpl
    def on_epoch_start(self, run):
        duplicate = copy.deepcopy(run.network).eval()
        for parameter in duplicate.parameters():
            parameter.data.zero_()
        self.copies.append(duplicate(torch.ones(1, 3)).item())


def test_a_copy_of_the_network_computes_with_its_own_parameters(tmp_path):
    session_with(tmp_path, ActivationCheckpointing("layers"), copies := Copies())()
    assert copies.copies == [0.0, 0.0]


class Fails:
    @hookimpl
    def on_epoch_end(self):
        raise ValueError("on purpose")


@pytest.mark.parametrize("hooks", [[], [Fails()]])
def test_modules_have_their_own_class_and_names_after_the_run(tmp_path, hooks):
    session = session_with(tmp_path, ActivationCheckpointing("layers*"), *hooks)
    before, classes = session.network.state_dict(), [type(module) for module in session.network.modules()]
    if hooks:
        with pytest.raises(ValueError, match="on purpose"):
            session()
    else:
        session()
    assert [type(module) for module in session.network.modules()] == classes
    assert list(session.network.state_dict()) == list(before)


class ListSession(TinySession):
    def init_network(self):
        network = TinyNetwork(0.0)
        network.blocks = torch.nn.ModuleList([network.layers])
        return network


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["layer"], r"No module of TinyNetwork matches the pattern 'layer'\. Did you mean 'layers'"),
        (["encoder"], r"No module of TinyNetwork matches the pattern 'encoder'.*network\.named_modules\(\)"),
        (["blocks"], r"'blocks' of TinyNetwork is a ModuleList, which is never called\. To fix.*'blocks\.\*'"),
        (
            ["layers.0", "layers.[01]"],
            r"'layers\.0' of TinyNetwork matches 'layers\.\[01\]' and .* another",
        ),
    ],
)
def test_a_pattern_that_cannot_be_used_is_an_error_before_training(tmp_path, patterns, message):
    hooks = [ActivationCheckpointing(pattern) for pattern in patterns]
    with pytest.raises(HookError, match=message):
        session_with(tmp_path, *hooks, kind=ListSession)()
