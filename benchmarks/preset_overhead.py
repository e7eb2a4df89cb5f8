"""What the whole preset costs per iteration: a small network, trained by hand, with torchbase, Ignite and Lightning.

The network is so small that the overhead of the loops is visible. All sides train the same network on the same
ready-made mini-batches with the same optimizer.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from measuring import MICROSECONDS_PER_ITERATION, Outcome, Sample, Side, TimedBatches, compare, is_installed
from torch.nn.functional import cross_entropy

from torchbase import Engine, Phase, Run, TrainingBaseSession, ValidationDatasetsDict
from torchbase.engine.training_step import TrainingStep

WARM_UP = 64
ITERATIONS = 4096  # long enough for the thread of TensorBoard to write several times
REPETITIONS = 9
BOUND = 60.0
LEARNING_RATE = 0.001
MINI_BATCH_SIZE = 32
CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 1,
        "mini_batch_size": MINI_BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "seed": 1,
    },
    "network": {"architecture": "SmallNetwork"},
}
UNREAD = Dataset.from_dict({"label": [0]})  # made once: the other sides have no such set
READY_MADE = [
    {"features": torch.randn(MINI_BATCH_SIZE, 16), "label": torch.randint(2, (MINI_BATCH_SIZE,))} for _ in range(64)
]

Train = Callable[[TimedBatches, Path], None]


def measure() -> Outcome:
    """Measures all loops."""
    has_ignite, has_lightning = is_installed("ignite"), is_installed("lightning")
    sides = [
        Side("the hand-written loop", lambda: clock(train_by_hand)),
        Side("torchbase Engine with TrainingStep alone", lambda: clock(train_with_engine)),
        Side("torchbase TrainingBaseSession, all default hooks", lambda: clock(train_with_session), BOUND),
        Side(
            "the same, seeding a loader for each mini-batch",
            lambda: clock(train_with_unknown_loader),
        ),
        Side("Ignite, the same features", (lambda: clock(train_with_ignite)) if has_ignite else None),
        Side("Lightning, TensorBoardLogger", (lambda: clock(train_with_lightning)) if has_lightning else None),
        Side("Lightning, barebones", (lambda: clock(train_with_barebones)) if has_lightning else None),
    ]
    return compare(
        "preset_overhead: training a small network",
        f"MLP 16-32-2, mini-batches of {MINI_BATCH_SIZE}, fused Adam; {ITERATIONS:,} iterations after {WARM_UP} for "
        "warming up. Sides that record write the loss of every iteration to TensorBoard. The time once per run is its "
        "set-up and its end, including the checkpoint of the epoch.",
        sides,
        REPETITIONS,
        MICROSECONDS_PER_ITERATION,
    )


def clock(train: Train) -> Sample:
    """Measures the time of an iteration, and of the rest of the run.

    Args:
        train: Trains for one epoch, and writes to the folder that is passed.
    """
    batches = TimedBatches(READY_MADE, WARM_UP, ITERATIONS)
    with TemporaryDirectory() as folder:
        started_at = time.perf_counter()
        train(batches, Path(folder))
        whole = time.perf_counter() - started_at
    each = batches.seconds_per_iteration
    return Sample(each, whole - each * len(batches))


class SmallNetwork(torch.nn.Sequential):
    """The trained network: 16 features, 32 hidden units, 2 classes."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))


class UnknownLoader:
    """A loader of which a session can't know what it draws."""

    def __init__(self, batches: TimedBatches) -> None:
        """Wraps mini-batches.

        Args:
            batches: The mini-batches.
        """
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


def new_optimizer(network: torch.nn.Module) -> torch.optim.Optimizer:
    """Creates torchbase's default optimizer."""
    return torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)


def train_by_hand(batches: TimedBatches, folder: Path) -> None:
    """Trains with a plain loop."""
    network = SmallNetwork()
    optimizer = new_optimizer(network)
    for batch in batches:
        loss = cross_entropy(network(batch["features"]), batch["label"])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def train_with_engine(batches: TimedBatches, folder: Path) -> None:
    """Trains with the engine and the default step, without other hooks."""
    network = SmallNetwork()

    def forward_pass(batch: Any) -> Mapping[str, Any]:
        return {"logits": network(batch["features"]), "label": batch["label"]}

    def loss_function(*, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return cross_entropy(logits, label)

    step = TrainingStep(
        forward_pass,
        loss_function,
        get_loss_value=lambda loss_tensor: loss_tensor,
        infer_mini_batch_size=lambda batch: len(batch["label"]),
    )
    training = Phase("training", batches, is_training=True)
    Engine(defaults=[step]).run(Run(training, max_epochs=1, network=network, optimizer=new_optimizer(network)))


class SmallSession(TrainingBaseSession):
    """The preset with its defaults, except for the ready-made mini-batches."""

    ready_made: TimedBatches | UnknownLoader

    def init_datasets(self) -> Any:
        """Returns a training set that isn't read, and no validation set."""
        return UNREAD, ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())

    def init_dataloaders(self) -> tuple[Any, Mapping[str, Any]]:
        """Returns the ready-made mini-batches."""
        return self.ready_made, {}

    def init_network(self) -> torch.nn.Module:
        """Returns the network."""
        return SmallNetwork()

    def forward_pass(self, mini_batch: Any) -> Mapping[str, Any]:
        """Passes a mini-batch through the network."""
        return {"logits": self.network(mini_batch["features"]), "label": mini_batch["label"]}

    def loss_function(self, *, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Computes the loss."""
        return cross_entropy(logits, label)

    def init_metrics(self) -> None:
        """Returns no metrics."""


def train_with_session(batches: TimedBatches, folder: Path) -> None:
    """Trains with the preset: all default hooks, TensorBoard at every iteration, a checkpoint every 60 s."""
    session = SmallSession(CONFIG, folder)
    session.ready_made = batches
    session()


def train_with_unknown_loader(batches: TimedBatches, folder: Path) -> None:
    """Trains with the preset, which seeds the global streams for each mini-batch of a loader that isn't its own."""
    session = SmallSession(CONFIG, folder)
    session.ready_made = UnknownLoader(batches)
    session()


def train_with_ignite(batches: TimedBatches, folder: Path) -> None:
    """Trains with Ignite: a running average, a NaN check, TensorBoard at every iteration, checkpoints."""
    from ignite.engine import Engine as IgniteEngine
    from ignite.engine import Events
    from ignite.handlers import Checkpoint, DiskSaver, TensorboardLogger, TerminateOnNan
    from ignite.metrics import RunningAverage

    network = SmallNetwork().train()
    optimizer = new_optimizer(network)

    def step(engine: IgniteEngine, batch: Any) -> float:
        loss = cross_entropy(network(batch["features"]), batch["label"])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    trainer = IgniteEngine(step)
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    parts = {"network": network, "optimizer": optimizer, "trainer": trainer}
    saver = DiskSaver(str(folder / "states"), create_dir=True)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint(parts, saver, n_saved=2))
    with TensorboardLogger(log_dir=str(folder)) as recorder:
        recorder.attach_output_handler(
            trainer, Events.ITERATION_COMPLETED, tag="training", output_transform=lambda loss: {"loss": loss}
        )
        trainer.run(batches, max_epochs=1)


def train_with_lightning(batches: TimedBatches, folder: Path) -> None:
    """Trains with Lightning's defaults: checkpoints, and TensorBoard at every iteration."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import TensorBoardLogger

    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=TensorBoardLogger(folder),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(lightning_module(logs=True), batches)


def train_with_barebones(batches: TimedBatches, folder: Path) -> None:
    """Trains with Lightning's ``barebones``: no logger, no checkpoint, nothing recorded."""
    from lightning.pytorch import Trainer

    trainer = Trainer(accelerator="cpu", devices=1, max_epochs=1, barebones=True)
    trainer.fit(lightning_module(logs=False), batches)


def lightning_module(*, logs: bool) -> Any:
    """Creates the network as a LightningModule.

    Args:
        logs: Whether it logs the loss.
    """
    from lightning.pytorch import LightningModule

    class LightningNetwork(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = SmallNetwork()

        def training_step(self, batch: Any) -> torch.Tensor:
            loss = cross_entropy(self.network(batch["features"]), batch["label"])
            if logs:
                self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return new_optimizer(self.network)

    return LightningNetwork()
