"""What training on several processes costs per iteration: torchbase, a loop with DDP by hand, Lightning, Accelerate.

All sides train the same network on the same mini-batches with the same optimizer, on two processes that are joined by
gloo. Each process computes half of each mini-batch. The processes are forked from this one.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from data_path import HEAD, Contender, compare_ratios, describe_turns
from measuring import Outcome, TimedBatches, is_installed
from preset_overhead import SmallSession
from torch.distributed import TCPStore
from torch.nn.functional import cross_entropy

PROCESSES = 2
WARM_UP = 30
ITERATIONS = 400
REPETITIONS = 7
LEARNING_RATE = 0.001
MINI_BATCH_SIZE = 256
FEATURES, CLASSES = 256, 10
BOUND_FOR_A_PART, BOUND_FOR_FOUR_PARTS = 1.10, 1.50
READY_MADE = [
    {"features": torch.randn(MINI_BATCH_SIZE, FEATURES), "label": torch.randint(CLASSES, (MINI_BATCH_SIZE,))}
    for _ in range(32)
]

Train = Callable[[TimedBatches, Path], None]


def measure() -> Outcome:
    """Measures all loops."""
    has_lightning, has_accelerate = is_installed("lightning"), is_installed("accelerate", "safetensors")
    sides = [
        Contender("a loop by hand with DDP", clock(train_by_hand)),
        Contender("torchbase, a part per process", clock(session_with(PROCESSES)), most=BOUND_FOR_A_PART),
        Contender("torchbase, four parts per process", clock(session_with(4 * PROCESSES)), most=BOUND_FOR_FOUR_PARTS),
        Contender("Accelerate", clock(train_with_accelerate) if has_accelerate else None),
        Contender("Lightning, DDP", clock(train_with_lightning) if has_lightning else None),
    ]
    return Outcome(
        f"several_processes: training on {PROCESSES} processes",
        f"MLP {FEATURES}-512-512-{CLASSES}, mini-batches of {MINI_BATCH_SIZE}, Adam; {ITERATIONS} iterations after "
        f"{WARM_UP} for warming up; gloo on one machine; µs per sample. torchbase has all default hooks, with "
        f"TensorBoard at each iteration; Lightning logs to TensorBoard at each iteration; the others record nothing. "
        f"{describe_turns(REPETITIONS)}",
        HEAD,
        compare_ratios(sides, REPETITIONS),
    )


def clock(train: Train, count: int = PROCESSES, iterations: int = ITERATIONS) -> Callable[[], float]:
    """Returns a function that measures the seconds per sample on the main process.

    Args:
        train: Trains for one epoch on each process, and writes to the folder that is passed.
        count: The number of processes.
        iterations: The number of iterations that are measured.
    """

    def measure_run() -> float:
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        # In a process of its own, so that no thread runs here when processes are forked.
        server = context.Process(target=serve_store, args=(sender,), daemon=True)
        server.start()
        port = receiver.recv()
        with TemporaryDirectory() as folder:
            processes = [
                context.Process(target=train_in_process, args=(train, index, count, iterations, port, folder, sender))
                for index in range(count)
            ]
            for process in processes:
                process.start()
            seconds = receiver.recv()
            for process in processes:
                process.join()
        server.kill()
        server.join()
        return float(seconds)

    return measure_run


def serve_store(sender: Connection) -> None:
    """Serves the store in which the processes find each other, as torchrun does."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    sender.send(store.port)
    signal.pause()


def train_in_process(
    train: Train, index: int, count: int, iterations: int, port: int, folder: str, sender: Connection
) -> None:
    """Trains on one of the processes, as torchrun starts it."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(index),
        LOCAL_RANK=str(index),
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_USE_AGENT_STORE="True",
        TORCHELASTIC_RUN_ID="benchmark",
    )
    batches = TimedBatches(READY_MADE, WARM_UP, iterations)
    train(batches, Path(folder))
    if index == 0:
        sender.send(batches.seconds_per_iteration / MINI_BATCH_SIZE)


def new_network() -> torch.nn.Module:
    """Creates the network that is trained."""
    torch.manual_seed(1)
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    return torch.nn.Sequential(linear(FEATURES, 512), relu(), linear(512, 512), relu(), linear(512, CLASSES))


def new_optimizer(network: torch.nn.Module) -> torch.optim.Optimizer:
    """Creates torchbase's default optimizer."""
    return torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)


def own_rows_of(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the samples of this process."""
    size = MINI_BATCH_SIZE // int(os.environ["WORLD_SIZE"])
    first = int(os.environ["RANK"]) * size
    return {name: value[first : first + size] for name, value in batch.items()}


def train_by_hand(batches: TimedBatches, folder: Path) -> None:
    """Trains with a plain loop."""
    torch.distributed.init_process_group("gloo")
    network = torch.nn.parallel.DistributedDataParallel(new_network())
    optimizer = new_optimizer(network)
    for whole in batches:
        batch = own_rows_of(whole)
        loss = cross_entropy(network(batch["features"]), batch["label"])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    torch.distributed.destroy_process_group()


class Session(SmallSession):
    """The same with the network of this benchmark."""

    def init_network(self) -> torch.nn.Module:
        """Returns the network."""
        return new_network()


def session_with(parts: int) -> Train:
    """Returns a function that trains with the preset, in this number of parts over all processes."""

    def train(batches: TimedBatches, folder: Path) -> None:
        session = Session(
            {
                "session": {
                    "device_name": "cpu",
                    "num_epochs": 1,
                    "mini_batch_size": MINI_BATCH_SIZE,
                    "mini_batch_parts": parts,
                    "learning_rate": LEARNING_RATE,
                    "seed": 1,
                },
                "network": {"architecture": "Sequential"},
            },
            folder,
        )
        session.ready_made = batches
        session()

    return train


def train_with_accelerate(batches: TimedBatches, folder: Path) -> None:
    """Trains with Accelerate, without tracking and checkpoints."""
    os.environ["ACCELERATE_USE_CPU"] = "true"
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    bare = new_network()
    network, optimizer = accelerator.prepare(bare, new_optimizer(bare))
    for whole in batches:
        batch = own_rows_of(whole)
        loss = cross_entropy(network(batch["features"]), batch["label"])
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    accelerator.end_training()


class Halves(Sequence[Any]):
    """The halves of this process of the mini-batches."""

    def __init__(self, batches: TimedBatches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError

    def __iter__(self) -> Any:
        return map(own_rows_of, self._batches)


def train_with_lightning(batches: TimedBatches, folder: Path) -> None:
    """Trains with Lightning's DDP, with its defaults: checkpoints, and TensorBoard at every iteration."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import TensorBoardLogger

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = new_network()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss = cross_entropy(self.network(batch["features"]), batch["label"])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return new_optimizer(self.network)

    trainer = Trainer(
        accelerator="cpu",
        devices=PROCESSES,
        num_nodes=1,
        strategy="ddp",
        max_epochs=1,
        logger=TensorBoardLogger(folder),
        log_every_n_steps=1,
        default_root_dir=folder,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), Halves(batches))


if __name__ == "__main__":
    print(measure().as_markdown())
