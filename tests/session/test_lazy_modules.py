from pathlib import Path

import pytest
import torch
from every_technique import check_resumes_exactly, final_state_of, session_with
from tiny import StopAt, TinySession, make_dataset
from torch import nn

from torchbase.errors import StepError
from torchbase.files.bitwise import different_values
from torchbase.hooks import Compile, ExponentialMovingAverage, RetryOnOutOfMemory
from torchbase.session.lazy_modules import is_lazily_built


class Network(nn.Sequential):
    def forward(self, x):
        return super().forward(x).squeeze(1)


def eager_layers():
    return nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1)


def lazy_layers():
    return nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Dropout(0.3), nn.LazyLinear(1)


class EagerSession(TinySession):
    architecture = "Network"

    def init_network(self):
        return Network(*eager_layers())


class LazySession(EagerSession):
    def init_network(self):
        return Network(*lazy_layers())


class LazyStreamSession(LazySession):
    def init_datasets(self):
        train, validation = super().init_datasets()
        return train.to_iterable_dataset(), validation


class LazyStockSession(LazySession):
    def init_dataloaders(self):
        loader = torch.utils.data.DataLoader(self.dataset_train.with_format("torch"), 4, shuffle=True)
        return loader, super().init_dataloaders()[1]


class LoggingSession(LazySession):
    def forward_pass(self, mini_batch):
        self.log("drawn", torch.rand(()))
        return super().forward_pass(mini_batch)


@pytest.mark.parametrize("hooks", [(), (lambda: ExponentialMovingAverage(0.9),)], ids=["plain", "averaged"])
def test_a_lazy_network_trains_bit_for_bit_like_the_same_network_that_is_not_lazy(tmp_path, hooks):
    states = []
    for kind in (EagerSession, LazySession):
        session = session_with(tmp_path / kind.__name__, *(make() for make in hooks), kind=kind)
        session()
        states.append(final_state_of(session))
    assert different_values(*states) == []


@pytest.mark.parametrize("kind", [LazySession, LazyStockSession, LoggingSession])
def test_a_resumed_run_continues_exactly(tmp_path, kind):
    check_resumes_exactly(tmp_path, lambda: [ExponentialMovingAverage(0.9)], kind=kind)


def test_a_resumed_run_on_a_stream_continues_exactly(tmp_path):
    whole = session_with(tmp_path / "whole", kind=LazyStreamSession)
    whole()
    stopped = session_with(tmp_path / "stopped", StopAt(3), kind=LazyStreamSession)
    stopped()
    resumed = LazyStreamSession.resume(tmp_path / "stopped")
    resumed()
    assert different_values(final_state_of(whole), final_state_of(resumed)) == []


@pytest.mark.parametrize("hook", [lambda: Compile(backend="eager"), RetryOnOutOfMemory])
def test_other_techniques_train_a_lazy_network(tmp_path, hook):
    check_resumes_exactly(tmp_path, lambda: [hook()], kind=LazySession, stops=(7,))


@pytest.mark.parametrize(
    "use_before",
    [
        lambda session: session.network,
        lambda session: session.optimizer,
        lambda session: session.evaluate(make_dataset()),
        lambda session: next(session.predict(make_dataset())),
        lambda session: (torch.rand(9), session.network),
    ],
)
def test_the_first_values_depend_on_the_seed_alone(tmp_path, use_before):
    expected = session_with(tmp_path, kind=LazySession).network.state_dict()
    session = session_with(tmp_path, kind=LazySession)
    use_before(session)
    assert not is_lazily_built(session.network)
    assert different_values(expected, session.network.state_dict()) == []


def test_materializing_changes_no_random_stream_and_no_statistics(tmp_path):
    session = session_with(tmp_path, kind=LoggingSession)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    network = session.network
    assert torch.equal(torch.rand(3), expected)
    assert all(module.training for module in network.modules())
    assert network[1].num_batches_tracked == 0
    assert torch.equal(network[1].running_mean, torch.zeros(8))


def test_a_run_starts_from_the_network_of_a_lazy_run(tmp_path):
    first = session_with(tmp_path, kind=LazySession)
    tag = Path(first().run_dir).name
    second = LazySession(dict(first._config.as_given), tmp_path, source_run_dir_tag=tag, source_network="last")
    assert different_values(first.network.state_dict(), second.network.state_dict()) == []
    opened = LazySession.resume(tmp_path, tag)
    opened.load_best_network()
    best = torch.load(Path(first.run_dir, "network.pth"), weights_only=True)
    assert different_values(best, opened.network.state_dict()) == []


def test_no_forward_pass_runs_for_a_network_without_lazy_modules(tmp_path):
    class Refusing(TinySession):
        def forward_pass(self, mini_batch):
            raise AssertionError

        def init_dataloaders(self):
            raise AssertionError

    assert session_with(tmp_path, kind=Refusing).optimizer


def test_a_part_that_is_used_in_training_only_is_materialized(tmp_path):
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(*eager_layers())
            self.auxiliary = nn.Sequential(*lazy_layers())

        def forward(self, x):
            return (self.layers(x) + (self.auxiliary(x) if self.training else 0)).squeeze(1)

    class AuxiliarySession(TinySession):
        architecture = "Auxiliary"

        def init_network(self):
            return Auxiliary()

    network = session_with(tmp_path, kind=AuxiliarySession).network
    assert network.layers[1].num_batches_tracked == network.auxiliary[1].num_batches_tracked == 0
    check_resumes_exactly(tmp_path, list, kind=AuxiliarySession, stops=(7,))


class UnusedSession(LazySession):
    def init_network(self):
        network = super().init_network()
        network.unused = nn.LazyLinear(1)
        network.forward = lambda x: nn.Sequential(*list(network)[:4])(x).squeeze(1)
        return network


class Once:
    def __init__(self, loader):
        self.iterator = iter(loader)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.iterator)


class IteratorSession(LazySession):
    def init_dataloaders(self):
        loader, validation = super().init_dataloaders()
        return Once(loader), validation


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (UnusedSession, "parameters without a shape, 'unused.weight', 'unused.bias', since forward_pass doesn't use"),
        (IteratorSession, "lazy modules .*, which need a mini-batch .* or is an iterator"),
    ],
)
def test_a_network_that_stays_lazy_is_refused(tmp_path, kind, message):
    session = session_with(tmp_path, kind=kind)
    for _ in range(2):  # a failed network isn't left half-built
        with pytest.raises(StepError, match=message):
            _ = session.network


def test_an_error_says_what_the_mini_batch_is(tmp_path):
    class Wrong(LazySession):
        def forward_pass(self, mini_batch):
            return {"output": self.network(mini_batch["image"])}

    with pytest.raises(KeyError) as caught:
        session_with(tmp_path, kind=Wrong)()
    assert "with the first mini-batch: x: torch.float32 of shape (4, 3)" in caught.value.__notes__[0]
