import copy

import pytest
import torch
from torch import nn

from torchbase.checkpoints.network_copy import NetworkCopier
from torchbase.files.bitwise import different_values


class Assigns(nn.Module):
    """Gives its buffer another tensor in each forward pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3), persistent=False)

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return x


class CountsFromNone(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("rows", None)

    def forward(self, x):
        self.rows = torch.tensor(float(len(x))) if self.rows is None else self.rows + len(x)
        return x


class Grows(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(0), persistent=False)

    def forward(self, x):
        rows = len(self.seen)
        self.seen.resize_(rows + len(x))[rows:] = x[:, 0].detach()
        return x


class RegistersLater(nn.Module):
    def forward(self, x):
        if not hasattr(self, "cache"):
            self.register_buffer("cache", x.mean(0).detach())
        return x + self.cache


class MomentumEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(3, 3), nn.Linear(3, 3)
        self.key.requires_grad_(False)

    def forward(self, x):
        with torch.no_grad():
            for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
                key.lerp_(query, 0.5)
        return self.query(x) + self.key(x)


class CountsInExtraState(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = {"all": 0}

    def forward(self, x):
        self.calls["all"] += 1
        return x * self.calls["all"]

    def get_extra_state(self):
        return self.calls

    def set_extra_state(self, state):
        self.calls = state


KINDS = [
    Assigns,
    CountsFromNone,
    Grows,
    RegistersLater,
    MomentumEncoder,
    CountsInExtraState,
    lambda: nn.BatchNorm1d(3),
    lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))),
]


def everything_of(network):
    """All that a forward pass could change, copied."""
    return {
        "state": copy.deepcopy(network.state_dict()),
        "buffers": {name: buffer.clone() for name, buffer in network.named_buffers()},
        "modes": [module.training for module in network.modules()],
        "names": [sorted(dir(module)) for module in network.modules()],
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("passes", [1, 3])
def test_whatever_a_forward_pass_changes_is_undone(kind, passes):
    torch.manual_seed(0)
    network = nn.Sequential(kind(), nn.Dropout())
    network[1].eval()
    x = torch.randn(4, 3)
    copier, before = NetworkCopier(network), everything_of(network)
    saved = copier.copy()
    for _ in range(2):  # a copy can be restored again
        for _ in range(passes):
            network(x)
        network.train()
        assert different_values(before, everything_of(network)) != []
        saved.restore()
        assert different_values(before, everything_of(network)) == []


def test_a_network_goes_on_from_the_restored_state_as_from_the_first():
    outputs = []
    for with_trial in (False, True):
        torch.manual_seed(0)
        network = nn.Sequential(*(kind() for kind in KINDS))
        x = torch.randn(4, 3)
        if with_trial:
            saved = NetworkCopier(network).copy()
            network(torch.randn(8, 3))
            saved.restore()
        outputs.append([network(x) for _ in range(3)])
    assert different_values(*outputs) == []


class FillsLater(nn.Module):
    """Sets a buffer that is None, from the second pass on."""

    def __init__(self):
        super().__init__()
        self.register_buffer("largest", None)
        self.passes = 0

    def forward(self, x):
        if self.passes > 0:
            self.largest = x.max() if self.largest is None else torch.maximum(self.largest, x.max())
        self.passes += 1
        return x


class BuildsLater(nn.Module):
    """Builds a module in its first pass."""

    def forward(self, x):
        if not hasattr(self, "part"):
            self.part = FillsLater()
        return self.part(x)


def test_one_copier_serves_a_network_that_a_forward_pass_extends():
    network = BuildsLater()
    copier = NetworkCopier(network)
    for _ in range(3):
        saved = copier.copy()
        network(torch.randn(4, 3))
        saved.restore()
    assert network.part.largest is None


class MergesInEvaluation(nn.Module):
    """Adds a product to its weights in evaluation mode, as LoRA does."""

    def __init__(self):
        super().__init__()
        self.base, self.added = nn.Linear(3, 3), nn.Linear(3, 3)
        self.is_merged = False

    def train(self, mode=True):
        with torch.no_grad():
            if mode == self.is_merged:
                self.base.weight.add_(self.added.weight, alpha=-1 if mode else 1)
                self.is_merged = not mode
        return super().train(mode)

    def forward(self, x):
        return self.base(x) + (0 if self.is_merged else x @ self.added.weight.T)


@pytest.mark.parametrize("was_training", [True, False])
def test_a_mode_is_restored_by_train_before_the_weights(was_training):
    network = nn.Sequential(MergesInEvaluation()).train(was_training)
    before = copy.deepcopy(network.state_dict())
    saved = NetworkCopier(network).copy(with_trained_parameters=True)
    network.train(not was_training)
    saved.restore()
    assert different_values(before, network.state_dict()) == []
    assert network[0].is_merged != was_training


def test_trained_parameters_are_copied_on_request():
    network = nn.Linear(2, 2)
    saved = NetworkCopier(network).copy(with_trained_parameters=True)
    before = copy.deepcopy(network.state_dict())
    assert saved.changed_parameters() == []
    with torch.no_grad():
        network.bias.add_(1)
    assert saved.changed_parameters() == ["bias"]
    saved.restore()
    assert different_values(before, network.state_dict()) == []
    assert NetworkCopier(network).copy().parameters == {}


def test_parameters_without_values_yet_are_left_out():
    network = nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d())
    saved = NetworkCopier(network).copy(with_trained_parameters=True)
    network(torch.randn(3, 4))
    saved.restore()
    assert network[0].weight.shape == (2, 4)
    assert network[1].running_mean.shape == (2,)
