"""What fast reading saves end to end: three epochs of digits with a small network, including all set-up.

All sides train the same network with the same optimizer on the same dataset. The time includes building the loader, the
network and all objects of a framework, and everything that is written.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from data_path import HEAD, SIZE, STOCK, Contender, compare_ratios, describe_turns, digits, stock_loader
from datasets import Dataset
from measuring import Outcome, is_installed
from torch.nn.functional import cross_entropy

from torchbase import Engine, Phase, Run, TrainingBaseSession, ValidationDatasetsDict
from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.engine.training_step import TrainingStep
from torchbase.randomness.run_randomness import Randomness

EPOCHS = 3
REPETITIONS = 11
LEARNING_RATE = 0.001
CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": EPOCHS,
        "mini_batch_size": SIZE,
        "learning_rate": LEARNING_RATE,
        "seed": 1,
    },
    "network": {"architecture": "SmallNetwork"},
}

Train = Callable[[Dataset, Path], None]


def measure() -> Outcome:
    """Measures all sides."""
    dataset = digits()
    has_lightning = is_installed("lightning")
    with_all = [
        Contender("torchbase TrainingBaseSession, all default hooks", clock(train_with_session, dataset)),
        Contender("hand-written loop, stock loader", clock(train_by_hand, dataset), least=5),
        Contender(
            "Lightning, TensorBoardLogger, stock loader",
            clock(train_with_lightning, dataset) if has_lightning else None,
            least=10,
        ),
    ]
    with_nothing = [
        Contender("torchbase Engine with TrainingStep alone", clock(train_with_engine, dataset)),
        Contender("hand-written loop, stock loader, again", clock(train_by_hand, dataset)),
        Contender("hand-written loop, torchbase's loader", clock(train_by_hand_with_torchbase_loader, dataset)),
        Contender(
            "Lightning, barebones, stock loader",
            clock(train_with_bare_lightning, dataset) if has_lightning else None,
        ),
    ]
    return Outcome(
        "data_training: three epochs of digits",
        "1,797 images of 8 by 8 pixels, MLP 64-32-10, fused Adam; µs of the whole run per sample. In the first group "
        "torchbase and Lightning write the loss of every iteration to TensorBoard and a checkpoint per epoch, and "
        "torchbase waits at the end until it is on the disk; in the second group nothing is written. "
        f"The stock loader is {STOCK}. {describe_turns(REPETITIONS)}",
        HEAD,
        compare_ratios(with_all, REPETITIONS) + compare_ratios(with_nothing, REPETITIONS),
    )


def clock(train: Train, dataset: Dataset) -> Callable[[], float]:
    """Returns a function that measures the seconds of a whole run per sample.

    Args:
        train: Trains for three epochs, and writes to the folder that is passed.
        dataset: The digits.
    """

    def measure_run() -> float:
        with TemporaryDirectory() as folder:
            started_at = perf_counter()
            train(dataset, Path(folder))
            return (perf_counter() - started_at) / (EPOCHS * len(dataset))

    return measure_run


class SmallNetwork(torch.nn.Sequential):
    """The trained network: 64 pixels, 32 hidden units, 10 digits."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def new_optimizer(network: torch.nn.Module) -> torch.optim.Optimizer:
    """Creates torchbase's default optimizer."""
    return torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)


class DigitsSession(TrainingBaseSession):
    """The preset with its defaults."""

    dataset: Dataset

    def init_datasets(self) -> Any:
        """Returns the digits, and no validation set."""
        return self.dataset, ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())

    def init_network(self) -> torch.nn.Module:
        """Returns the network."""
        return SmallNetwork()

    def forward_pass(self, mini_batch: Any) -> Mapping[str, Any]:
        """Passes a mini-batch through the network."""
        return {"logits": self.network(mini_batch["image"]), "label": mini_batch["label"]}

    def loss_function(self, *, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Computes the loss."""
        return cross_entropy(logits, label)

    def init_metrics(self) -> None:
        """Returns no metrics."""


def train_with_session(dataset: Dataset, folder: Path) -> None:
    """Trains with the preset: all default hooks, TensorBoard at every iteration, a checkpoint per epoch."""
    session = DigitsSession(CONFIG, folder)
    session.dataset = dataset
    session()


def train_with_engine(dataset: Dataset, folder: Path) -> None:
    """Trains with the engine, the default step and torchbase's loader; nothing is written."""
    network = SmallNetwork()
    step = TrainingStep(
        forward_pass=lambda batch: {"logits": network(batch["image"]), "label": batch["label"]},
        loss_function=lambda *, logits, label: cross_entropy(logits, label),
        get_loss_value=lambda loss_tensor: loss_tensor,
        infer_mini_batch_size=lambda batch: len(batch["label"]),
    )
    loader = MiniBatchLoader(dataset, EpochOrder(len(dataset), SIZE, True, "training", Randomness(1)))
    training = Phase("training", loader, is_training=True)
    Engine(defaults=[step]).run(Run(training, max_epochs=EPOCHS, network=network, optimizer=new_optimizer(network)))


def train_by_hand(dataset: Dataset, folder: Path) -> None:
    """Trains with a plain loop; nothing is written."""
    loader = stock_loader(dataset)
    loop(batch for _ in range(EPOCHS) for batch in loader)


def train_by_hand_with_torchbase_loader(dataset: Dataset, folder: Path) -> None:
    """Trains with the same loop, to see what the rest of a session takes."""
    loader = MiniBatchLoader(dataset, EpochOrder(len(dataset), SIZE, True, "training", Randomness(1)))
    loop(batch for epoch in range(1, EPOCHS + 1) for batch in loader.mini_batches(epoch))


def loop(batches: Iterable[Any]) -> None:
    """Trains a new network on mini-batches."""
    network = SmallNetwork()
    optimizer = new_optimizer(network)
    for batch in batches:
        loss = cross_entropy(network(batch["image"]), batch["label"])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def train_with_lightning(dataset: Dataset, folder: Path) -> None:
    """Trains with Lightning's defaults: checkpoints, and TensorBoard at every iteration."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import TensorBoardLogger

    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        logger=TensorBoardLogger(folder),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(lightning_network(), stock_loader(dataset))


def train_with_bare_lightning(dataset: Dataset, folder: Path) -> None:
    """Trains with Lightning's ``barebones``, without any extra."""
    from lightning.pytorch import Trainer

    trainer = Trainer(accelerator="cpu", devices=1, max_epochs=EPOCHS, barebones=True)
    trainer.fit(lightning_network(), stock_loader(dataset))


def lightning_network() -> Any:
    """Creates the network as a LightningModule."""
    from lightning.pytorch import LightningModule

    class LightningNetwork(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = SmallNetwork()

        def training_step(self, batch: Any) -> torch.Tensor:
            loss = cross_entropy(self.network(batch["image"]), batch["label"])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return new_optimizer(self.network)

    return LightningNetwork()
