"""The kinds of data that a phase can read, and why other objects can't be read."""

from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data import IterableDataset as TorchIterableDataset

from torchbase.errors import DataError, describe_returned

EXPECTED = (
    "a datasets.Dataset, a datasets.IterableDataset, a torch.utils.data.IterableDataset, or an object with __len__ and "
    "__getitem__, such as a torch.utils.data.Dataset"
)


def is_stream(dataset: object) -> bool:
    """Returns whether a dataset is a stream, of `datasets` or of torch.

    Args:
        dataset: A dataset.
    """
    from datasets import IterableDataset

    return isinstance(dataset, IterableDataset | TorchIterableDataset)


def reason_against_reading(dataset: Any) -> str | None:
    """Finds why an object isn't a dataset that a phase can read.

    Args:
        dataset: What ``init_datasets`` returned as a dataset.

    Returns:
        What it is, and how to fix it; None if it can be read, or only reading shows whether it can.
    """
    from datasets import Dataset, DatasetDict, IterableDatasetDict

    if is_stream(dataset):
        return None
    kind, to_fix = describe_returned(dataset), None
    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        to_fix = f"pass one of its splits: {', '.join(map(repr, dataset)) or 'it has none'}"
    elif isinstance(dataset, DataLoader):
        to_fix = "return its dataset here, and the DataLoader from init_dataloaders"
    elif isinstance(dataset, dict):
        to_fix = "make a dataset of its columns: datasets.Dataset.from_dict(...)"
    elif hasattr(dataset, "iloc"):
        to_fix = "make a dataset of it: datasets.Dataset.from_pandas(...)"
    elif isinstance(dataset, type | str | bytes) or not hasattr(type(dataset), "__getitem__"):
        to_fix = "make one, e.g. with datasets.Dataset.from_dict(...)"
    elif not hasattr(type(dataset), "__len__"):
        to_fix = "give it a method __len__, or make it a torch.utils.data.IterableDataset"
    if to_fix is not None:
        return f"is {kind}. To fix, {to_fix}"
    if not isinstance(dataset, Dataset) and getattr(dataset, "ndim", 1) == 0:
        return f"is {kind} without a dimension of samples. To fix, pass one with a sample per row"
    return "has 0 rows. To fix, add rows to it or remove it" if is_empty(dataset) else None


def check_readable(dataset: Any, whose: str) -> None:
    """Checks that a dataset can be read. It may be empty.

    Args:
        dataset: The dataset.
        whose: Whose it is, in the message.

    Raises:
        DataError: It can't be read.
    """
    reason = None if is_empty(dataset) else reason_against_reading(dataset)
    if reason is not None:
        raise DataError(f"The dataset of {whose} has to be {EXPECTED}, but it {reason}.")


def is_empty(dataset: Any) -> bool:
    """Returns whether a dataset has no samples. That of a stream isn't known.

    Args:
        dataset: A dataset.
    """
    has_length = hasattr(type(dataset), "__len__") and getattr(dataset, "ndim", 1) > 0
    return has_length and not is_stream(dataset) and len(dataset) == 0
