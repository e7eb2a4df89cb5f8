import logging
from pathlib import Path

import several
import sharded
import torch
from every_technique import session_with
from tiny import TinySession

from torchbase import Engine, Phase, Run
from torchbase.engine.named_optimizers import NamedOptimizers
from torchbase.hooks import Freeze, NetworkSummary
from torchbase.hooks.network_summary import record_network
from torchbase.run_directory.network_record import describe_network, read_network


class Tied(torch.nn.Module):
    """Uses one weight in two places, and one module under two names."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 4)
        self.block = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
        self.again = self.block[0]
        self.head = torch.nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.block[0].bias.requires_grad_(False)


def modules_of(record):
    return {module.name: module for module in record.modules}


def test_shared_parameters_count_once_and_frozen_ones_are_not_trainable():
    network = Tied()
    record = record_network(network)
    modules = modules_of(record)
    counts = {name: (one.kind, one.parameters, one.trainable) for name, one in modules.items()}
    assert counts == {
        "": ("Tied", 40 + 20 + 8, 40 + 16 + 8),
        "embedding": ("Embedding", 40, 40),
        "block": ("Sequential", 28, 24),
        "block.0": ("Linear", 20, 16),
        "block.1": ("BatchNorm1d", 8, 8),
        "head": ("Linear", 40, 40),
    }
    assert counts[""][1] == sum(parameter.numel() for parameter in network.parameters())
    assert modules["block.1"].size == 8 * 4 + 8 * 4 + 8  # two buffers of floats, and a count
    (weight,) = modules["head"].tensors
    assert (weight.name, weight.shape, weight.dtype, weight.same_as) == (
        "weight",
        (10, 4),
        "float32",
        "embedding.weight",
    )
    assert [(one.name, one.is_buffer, one.is_trainable) for one in modules["block.0"].tensors] == [
        ("weight", False, True),
        ("bias", False, False),
    ]
    assert [one.name for one in modules["block.1"].tensors if one.is_buffer] == [
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]


def test_each_of_several_optimizers_has_its_parameters():
    network = torch.nn.ModuleDict({"generator": torch.nn.Linear(2, 3), "critic": torch.nn.Linear(3, 1)})
    optimizers = {name: torch.optim.SGD(network[name].parameters(), lr=0.1) for name in network}
    assert record_network(network, NamedOptimizers(optimizers)).optimizers == {"generator": 9, "critic": 4}
    assert record_network(network, optimizers["critic"]).optimizers == {}


def test_a_network_that_is_a_single_module_and_one_without_parameters():
    assert describe_network(record_network(torch.nn.Linear(2, 3))) == "9 parameters in 1 module, 36 B"
    assert describe_network(record_network(torch.nn.Identity())) == "0 parameters in 1 module, 0 B"


def test_parameters_without_a_shape_count_nothing():
    record = record_network(torch.nn.Sequential(torch.nn.LazyLinear(3)))
    assert [one.shape for one in record.modules[1].tensors] == [None, None]
    assert record.network.parameters == 0


def test_a_session_records_its_network_as_it_trains(tmp_path, caplog):
    class Lazy(TinySession):
        architecture = "Sequential"

        def init_network(self):
            return torch.nn.Sequential(torch.nn.LazyLinear(2), torch.nn.Linear(2, 1), torch.nn.Flatten(0))

    session = session_with(tmp_path, Freeze("1.bias"), kind=Lazy, num_epochs=1)
    with caplog.at_level(logging.INFO, "torchbase"):
        session()
    record = read_network(Path(session.run_dir))
    assert [(one.name, one.parameters, one.trainable) for one in record.modules] == [
        ("", 11, 10),
        ("0", 8, 8),
        ("1", 3, 2),
        ("2", 0, 0),
    ]
    assert record.modules[1].tensors[0].shape == (2, 3)
    lines = [line for line in caplog.messages if line.startswith("network: ")]
    assert lines == ["network: 11 parameters (10 trainable) in 4 modules, 44 B"]
    resumed = Lazy.resume(tmp_path)
    caplog.clear()
    with caplog.at_level(logging.INFO, "torchbase"):
        resumed()  # which has nothing to train
    assert not [line for line in caplog.messages if line.startswith("network: ")]


def test_a_disk_error_is_a_warning(tmp_path, caplog):
    session = session_with(tmp_path, num_epochs=1)
    Path(session.run_dir, "network.json").mkdir()
    assert session().epochs_done == 1
    assert "The training continues, and `torchbase show` won't show the network: can't write" in caplog.text


def test_an_engine_needs_no_run_directory_and_no_network(caplog):
    for network in (None, torch.nn.Linear(1, 1)):
        run = Run(training=Phase("training", [1], is_training=True), max_epochs=1, network=network)
        with caplog.at_level(logging.INFO, "torchbase"):
            Engine(lambda run, phase, batch: None, [NetworkSummary()]).run(run)
    assert caplog.messages == ["network: 2 parameters in 1 module, 8 B"]


def recorded_when_sharded(index, parent, distributed):
    session = session_with(
        parent,
        kind=sharded.BlocksSession,
        mini_batch_size=20,
        num_epochs=1,
        distributed=distributed,
        mini_batch_parts=2,
    )
    session()
    return read_network(Path(session.run_dir))


def test_a_sharded_network_has_its_whole_shapes(tmp_path):
    several.import_sharding()
    main, _ = several.values_of(2, recorded_when_sharded, tmp_path, "shard")
    assert main == record_network(sharded.Blocks())
