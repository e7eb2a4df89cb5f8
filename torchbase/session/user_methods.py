"""The methods that a user writes, and methods that a user may override."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from torchbase.data.collating import collate_samples
from torchbase.data.columns import collate_rows
from torchbase.data.own_order import OrderFunction
from torchbase.data.parts import columns_of
from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.errors import StepError
from torchbase.hooks import BestValidation
from torchbase.metrics.base import BaseMetricsClass

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

    from torchbase.hooks import LearningRateSchedule

    Schedule = LRScheduler | LearningRateSchedule


class UserMethods(ABC):
    """The methods of `TrainingBaseSession` for users to write or override."""

    def init_ingredients(self) -> Any:
        """Returns what several methods need, such as a tokenizer or a vocabulary: ``self.ingredients``.

        It is called first and once, before datasets and network are built, and on each process.

        Returns:
            Any object, or several in a dictionary.
        """
        return None

    @abstractmethod
    def init_datasets(self) -> tuple[Any, ValidationDatasetsDict]:
        """Returns the training set and the validation sets.

        Returns:
            The training set, and a `ValidationDatasetsDict`. A set is a `datasets.Dataset`, a stream
            (`datasets.IterableDataset` or ``torch.utils.data.IterableDataset``), or any object with ``__len__`` and
            ``__getitem__``, such as a ``torch.utils.data.Dataset``.
        """

    @abstractmethod
    def init_network(self) -> torch.nn.Module:
        """Returns the network. The name of its class must be ``config["network"]["architecture"]``."""

    def load_pretrained(self, network: torch.nn.Module) -> None:
        """Loads the weights of a file into the network with which a new run starts.

        It is called right after `init_network`, unless the run has saved weights of its own or starts from those of
        another run. So a run can be resumed and evaluated without the file. It sets values and nothing else.

        Args:
            network: What `init_network` returned.
        """
        return

    def init_scheduler(self) -> "Schedule | Mapping[str, Schedule] | None":
        """Returns the learning rate schedule; None without one.

        Returns:
            A PyTorch scheduler for `optimizer`, which is stepped after each epoch; or a `LearningRateSchedule`, which
            defines when it is stepped. With several optimizers, a dictionary of schedules by the names of the
            optimizers.
        """
        return None

    def init_order(self) -> OrderFunction | None:
        """Returns the order of the training set; None shuffles it in each epoch.

        Returns:
            A function that is called once per epoch with the epoch, from 1, and a generator that is seeded for it. It
            returns the rows of the training set, shape (rows,), or the rows of each mini-batch. Rows can be repeated or
            left out, and epochs can have different lengths. `WeightedOrder`, `ClassesOrder` and `LengthOrder` are such
            functions.
        """
        return None

    @abstractmethod
    def forward_pass(self, mini_batch: Any) -> Mapping[str, Any]:
        """Passes a mini-batch through the network.

        Args:
            mini_batch: The columns by name, or what `dataloader_collate_function` returns. A column is a tensor whose
                first dimension is the samples, or a list. With a GPU, tensors of a dataset may be on the GPU already;
                tensors of a stream are on the CPU. ``.to(self.device)`` works for both.

        Returns:
            Outputs by name. `loss_function` and the metrics receive them by these names.
        """

    @abstractmethod
    def loss_function(self, **outputs: Any) -> torch.Tensor | Mapping[str, torch.Tensor] | None:
        """Computes the loss. Its keyword arguments name the outputs that it needs: ``(self, *, output, target)``.

        Args:
            **outputs: The outputs of `forward_pass` that it names.

        Returns:
            The loss, averaged over the samples of the mini-batch, shape (). Or a dictionary with the loss under
            ``"loss"`` and its parts by name, which are recorded and averaged like the loss. In validation, None for
            no loss.
        """

    @abstractmethod
    def init_metrics(self) -> Sequence[BaseMetricsClass] | None:
        """Returns the metrics instances that the config chooses from; None without metrics."""

    def init_best_validation(self) -> BestValidation:
        """Returns how the best network is chosen: by default, by the loss, and by all validation sets that vote.

        It is called in the constructor, before datasets and network are built.

        Returns:
            A `BestValidation`, such as ``BestValidation("accuracy")`` or ``BestValidation(rule="majority")``.
        """
        return BestValidation()

    def sharded_units(self, network: torch.nn.Module) -> Sequence[torch.nn.Module]:
        """Returns the units of a network that is sharded over several processes (``session.distributed``).

        The parameters of one unit are whole on each process while it computes. What is in no unit is one more, the
        rest of the network.

        Args:
            network: The network.

        Returns:
            Modules of the network, whose forward is called. By default, the largest blocks that occur several times.
        """
        from torchbase.sharding.units import repeated_blocks  # most runs aren't sharded

        return repeated_blocks(network)

    def dataloader_collate_function(self, batch: list[Any]) -> Any:
        """Collates samples to a mini-batch. Override it to pad, crop, mix or rename.

        Args:
            batch: The samples, each a dictionary of its columns, or what a dataset of another kind returns.

        Returns:
            The mini-batch for `forward_pass`, of any type.
        """
        return collate_rows(batch) if isinstance(batch[0], Mapping) else collate_samples(batch)

    def get_loss_value(self, *, loss_tensor: torch.Tensor) -> torch.Tensor | float:
        """Returns the value of the loss that is logged and averaged.

        Args:
            loss_tensor: The return value of `loss_function`, detached, on its device, shape ().

        Returns:
            A number, or a tensor of shape (). Tensors of many iterations are read together.
        """
        return loss_tensor

    def infer_mini_batch_size(self, mini_batch: Any) -> int:
        """Returns the number of samples in a mini-batch, by which averages are weighted.

        Args:
            mini_batch: The argument of `forward_pass`.

        Returns:
            The first dimension of its tensors.

        Raises:
            StepError: If the tensors disagree, or there are none.
        """
        return mini_batch_size(mini_batch)

    def infer_loss_weight(self, mini_batch: Any) -> torch.Tensor | float:
        """Returns how much a mini-batch, or a part of one, weighs in averages of its loss.

        Override it if the loss is a mean not over samples but over tokens, boxes or pixels, and return their number.
        The loss and its parts are averaged with this weight over an epoch, and so are the gradients of mini-batches
        that are accumulated or computed in parts.

        Args:
            mini_batch: The argument of `forward_pass`.

        Returns:
            A number of at least 0, or a tensor of shape () with one; on the device of the network, no iteration waits
            for it. A mini-batch that weighs nothing has no loss, and its gradients are 0. By default, the number of
            samples.
        """
        return self.infer_mini_batch_size(mini_batch)


def mini_batch_size(mini_batch: Any) -> int:
    """Returns the number of samples in a mini-batch.

    Args:
        mini_batch: A dictionary, a tuple, a list or a dataclass of columns, or a tensor.

    Returns:
        The first dimension of its tensors; without a tensor, the length of its lists.

    Raises:
        StepError: If the columns disagree, or there are none.
    """
    columns = mini_batch if isinstance(mini_batch, Mapping) else columns_of(mini_batch)
    rows = {one.size(0) for one in columns.values() if isinstance(one, torch.Tensor) and one.dim()}
    if len(rows) == 1:  # the usual case, so it has to be fast
        return rows.pop()
    sizes = {name: one.size(0) for name, one in columns.items() if isinstance(one, torch.Tensor) and one.dim()}
    sizes = sizes or {name: len(one) for name, one in columns.items() if isinstance(one, list)}
    distinct = set(sizes.values())
    if len(distinct) == 1:
        return distinct.pop()
    found = f"columns of different sizes: {sizes}" if sizes else f"no column of samples in {type(mini_batch).__name__}"
    raise StepError(
        f"The number of samples in a mini-batch is unclear: there are {found}. To fix, override infer_mini_batch_size."
    )
