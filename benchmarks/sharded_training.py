"""What training a sharded network costs per iteration: torchbase, and a loop by hand with FSDP2 as it comes.

Both train the same network on the same mini-batches with the same optimizer, cut into the same units, on 2 and on 4
processes that are joined by gloo. Each process computes one part of each mini-batch.
"""

from pathlib import Path

import torch
from data_path import HEAD, Contender, compare_ratios, describe_turns
from measuring import Outcome, TimedBatches
from preset_overhead import SmallSession
from several_processes import CLASSES, FEATURES, LEARNING_RATE, MINI_BATCH_SIZE, clock, own_rows_of
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

REPETITIONS = 5
ITERATIONS = 20
BOUND = 1.15


def measure() -> Outcome:
    """Measures both loops on 2 and on 4 processes."""
    rows = []
    for count in (2, 4):
        by_hand, with_torchbase = clock(train_by_hand, count, ITERATIONS), clock(train_with_session, count, ITERATIONS)
        sides = [
            Contender(f"a loop by hand with FSDP2, {count} processes", by_hand),
            Contender(f"torchbase, sharded, {count} processes", with_torchbase, most=BOUND),
        ]
        rows += compare_ratios(sides, REPETITIONS)
    return Outcome(
        "sharded_training: training a sharded network",
        f"MLP {FEATURES}-1024-1024-1024-{CLASSES}, mini-batches of {MINI_BATCH_SIZE}, Adam; gloo on one machine; µs "
        f"per sample. torchbase has its default hooks except checkpoints, with TensorBoard at each iteration; the loop "
        f"records nothing. {describe_turns(REPETITIONS)}",
        HEAD,
        rows,
    )


def new_network() -> torch.nn.Module:
    """Creates the network that is trained."""
    torch.manual_seed(1)
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    layers = [linear(FEATURES, 1024), relu(), linear(1024, 1024), relu(), linear(1024, 1024), relu()]
    return torch.nn.Sequential(*layers, linear(1024, CLASSES))


def new_optimizer(network: torch.nn.Module) -> torch.optim.Optimizer:
    """Creates the optimizer of both sides."""
    return torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)


def train_by_hand(batches: TimedBatches, folder: Path) -> None:
    """Trains with a plain loop."""
    torch.distributed.init_process_group("gloo")
    network = new_network()
    for layer in network:
        if isinstance(layer, torch.nn.Linear):
            fully_shard(layer)
    fully_shard(network)
    optimizer = new_optimizer(network)
    for whole in batches:
        batch = own_rows_of(whole)
        loss = cross_entropy(network(batch["features"]), batch["label"])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    torch.distributed.destroy_process_group()


class Session(SmallSession):
    """The same with the preset."""

    def init_network(self) -> torch.nn.Module:
        """Returns the network."""
        return new_network()

    def init_optimizer(self) -> torch.optim.Optimizer:
        """Returns the optimizer."""
        return new_optimizer(self.network)


def train_with_session(batches: TimedBatches, folder: Path) -> None:
    """Trains with the preset, with a part of each mini-batch per process."""
    session = Session(
        {
            "session": {
                "device_name": "cpu",
                "num_epochs": 1,
                "mini_batch_size": MINI_BATCH_SIZE,
                "distributed": "shard",
                "learning_rate": LEARNING_RATE,
                "seed": 1,
            },
            "network": {"architecture": "Sequential"},
        },
        folder,
    )
    for name in ("checkpoint", "best_validation"):
        session.unregister(name)
    session.ready_made = batches
    session()


if __name__ == "__main__":
    print(measure().as_markdown())
