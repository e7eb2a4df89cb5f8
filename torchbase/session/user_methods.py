"""What a user writes: the methods that a session can't do without, and those that may be overridden alone."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from torchbase.data.columns import collate_rows
from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.errors import StepError
from torchbase.metrics.base import BaseMetricsClass

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


class UserMethods(ABC):
    """The part of `TrainingBaseSession` that is the user's."""

    @abstractmethod
    def init_datasets(self) -> "tuple[Dataset | IterableDataset, ValidationDatasetsDict]":
        """Gives the training set and the validation sets."""

    @abstractmethod
    def init_network(self) -> torch.nn.Module:
        """Gives the network; its class name has to be ``config["network"]["architecture"]``."""

    @abstractmethod
    def forward_pass(self, mini_batch: Any) -> Mapping[str, Any]:
        """Passes a mini-batch through the network.

        Args:
            mini_batch: By column a tensor whose first dimension is the samples, or a list. On a GPU tensors of a
                dataset may be there already; those of a stream are on the CPU. ``.to(self.device)`` does for both.

        Returns:
            Outputs by name; `loss_function` and the metrics ask for them by these names.
        """

    @abstractmethod
    def loss_function(self, **outputs: Any) -> torch.Tensor | Mapping[str, torch.Tensor]:
        """Computes the loss; write it with the outputs it needs as keyword arguments: ``(self, *, output, target)``.

        Args:
            **outputs: Those outputs of `forward_pass` that it names.

        Returns:
            The loss, averaged over the samples of the mini-batch, shape (); or a dictionary of it, under ``"loss"``,
            and of its parts by name, which are recorded and averaged like it.
        """

    @abstractmethod
    def init_metrics(self) -> Sequence[BaseMetricsClass] | None:
        """Gives the families of metrics that the config chooses from, if any."""

    def dataloader_collate_function(self, batch: list[Any]) -> dict[str, Any]:
        """Makes a mini-batch of samples; override it to pad, crop, mix or rename.

        Args:
            batch: The samples, each a dictionary of its columns.

        Returns:
            The mini-batch that `forward_pass` gets.
        """
        return collate_rows(batch)

    def get_loss_value(self, *, loss_tensor: torch.Tensor) -> torch.Tensor | float:
        """Gives the value of the loss that is logged and averaged.

        Args:
            loss_tensor: What `loss_function` returned, detached, on its device, shape ().

        Returns:
            A tensor of shape (), which is read together with those of other iterations, or a number.
        """
        return loss_tensor

    def infer_mini_batch_size(self, mini_batch: Any) -> int:
        """Tells how many samples a mini-batch holds; averages are weighted by it.

        Args:
            mini_batch: As `forward_pass` gets it.

        Returns:
            The first dimension of its tensors.

        Raises:
            StepError: If the tensors disagree, or there is none.
        """
        return mini_batch_size(mini_batch)


def mini_batch_size(mini_batch: Any) -> int:
    """Tells how many samples a mini-batch holds.

    Args:
        mini_batch: A dictionary of columns.

    Returns:
        The first dimension of its tensors; without a tensor, the length of its lists.

    Raises:
        StepError: If they disagree, or there is nothing to tell by.
    """
    columns = mini_batch if isinstance(mini_batch, Mapping) else {}
    rows = {one.shape[0] for one in columns.values() if isinstance(one, torch.Tensor) and one.dim()}
    if len(rows) == 1:  # as in every iteration
        return rows.pop()
    sizes = {name: one.shape[0] for name, one in columns.items() if isinstance(one, torch.Tensor) and one.dim()}
    sizes = sizes or {name: len(one) for name, one in columns.items() if isinstance(one, list)}
    distinct = set(sizes.values())
    if len(distinct) == 1:
        return distinct.pop()
    came = f"columns of different sizes: {sizes}" if sizes else f"no column of samples in {type(mini_batch).__name__}"
    raise StepError(
        f"A mini-batch's number of samples can't be told: there are {came}. To fix, override infer_mini_batch_size."
    )
