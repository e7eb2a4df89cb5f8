"""The smallest session that trains: a few dozen samples in memory, and everything random that a training has."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.session.base import TrainingBaseSession

if TYPE_CHECKING:
    from datasets import Dataset

TINY_CONFIG: dict[str, dict[str, Any]] = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 2,
        "mini_batch_size": 4,
        "learning_rate": 0.05,
        "seed": 7,
    },
    "network": {"architecture": "TinyNetwork", "dropout": 0.3},
}


def tiny_config(**session: Any) -> dict[str, dict[str, Any]]:
    """Returns the config of `TinySession`.

    Args:
        **session: Keys of its section ``session`` to add or change.
    """
    config = copy.deepcopy(TINY_CONFIG)
    config["session"].update(session)
    return config


def tiny_dataset(number_of_rows: int = 18, offset: float = 0.0) -> "Dataset":
    """Creates a dataset: three numbers per row, ``x``, their sum, ``y``, and the row's number as a string, ``name``.

    Args:
        number_of_rows: The number of rows.
        offset: A number that is added to each ``x``, to create different sets.

    Returns:
        The same dataset for the same arguments.
    """
    from datasets import Dataset  # here, since its import is slow
    from datasets.table import InMemoryTable

    generator = torch.Generator("cpu").manual_seed(3)
    x = torch.randn(number_of_rows, 3, generator=generator, device="cpu") + offset
    columns = {"x": x.tolist(), "y": x.sum(dim=1).tolist(), "name": [str(n) for n in range(len(x))]}
    # Without a fingerprint, datasets hashes the content, which takes most of the time to create such a session.
    return Dataset(InMemoryTable.from_pydict(columns), fingerprint=f"tiny-{number_of_rows}-{offset}")


class TinyNetwork(torch.nn.Module):
    """Two layers with batch normalization and dropout between them: it has buffers, and draws random numbers."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, 8),
            torch.nn.BatchNorm1d(8),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(8, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Passes samples through the layers.

        Args:
            x: Shape (samples, 3).

        Returns:
            Shape (samples,).
        """
        output: torch.Tensor = self.layers(x).squeeze(1)
        return output


class TinySession(TrainingBaseSession):
    """Learns sums: 5 training iterations per epoch, a validation set that votes and one that is only for demo.

    ``config["data"]["training_samples"]`` and ``config["data"]["validation_samples"]`` make the sets larger.
    """

    def init_datasets(self) -> "tuple[Dataset, ValidationDatasetsDict]":
        """Returns the training set and two validation sets."""
        valid = tiny_dataset(self.config_data.get("validation_samples", 10), 0.1)
        return tiny_dataset(self.config_data.get("training_samples", 18)), ValidationDatasetsDict(
            datasets=(valid, tiny_dataset(6, 5.0)), only_for_demo=(False, True), names=("valid", "demo")
        )

    def init_network(self) -> TinyNetwork:
        """Returns the network."""
        return TinyNetwork(self.config_network["dropout"])

    def forward_pass(self, mini_batch: Any) -> Mapping[str, Any]:
        """Passes a mini-batch through the network; see `TrainingBaseSession`."""
        return {"output": self.network(mini_batch["x"]), "target": mini_batch["y"]}

    def loss_function(self, *, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Computes the mean squared error; see `TrainingBaseSession`."""
        return torch.nn.functional.mse_loss(output, target)

    def init_metrics(self) -> None:
        """Returns no metrics."""


class NoisySession(TinySession):
    """A `TinySession` whose optimizer draws random numbers, to detect hooks that draw right before it."""

    def init_optimizer(self) -> torch.optim.Optimizer:
        """Returns the default optimizer, which adds noise to the gradients before it uses them."""
        optimizer: torch.optim.Optimizer = super().init_optimizer()
        optimizer.register_step_pre_hook(_add_noise)
        return optimizer


def _add_noise(optimizer: torch.optim.Optimizer, arguments: Any, keyword_arguments: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad += 0.01 * torch.randn_like(parameter.grad)
