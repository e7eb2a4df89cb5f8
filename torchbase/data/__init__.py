"""Mini-batches from Arrow tables, in an order that can start at any position.

For: reading columns of a dataset directly from Arrow; the order of an epoch as a function of seed, phase, epoch and
position; loaders for datasets and for streams, and the parts of their mini-batches; faults in rows that cause an error;
splitting data; checking dictionaries of data; the validation datasets of a session.

In: datasets and streams, of `datasets`, of torch or of the user, sizes, a seed. Out: mini-batches, identical for any
number of workers and after any resume. Nothing here knows of networks.

Begin with `torchbase.data.phase_loader`, which chooses a loader. Then read `torchbase.data.order` and
`torchbase.data.columns`.
"""

from torchbase.data.checking import check_columns
from torchbase.data.columns import ColumnReader
from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order_rows import RowsByMiniBatch
from torchbase.data.padding import pad
from torchbase.data.parts import MiniBatchPart, SplitMiniBatch
from torchbase.data.ready_orders import ClassesOrder, LengthOrder, WeightedOrder
from torchbase.data.splitting import split_iterables, split_to_train_valid_test
from torchbase.data.streaming import StreamLoader
from torchbase.data.typed_dict import TypedDict, TypedDictIterable
from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.data.windows import RandomCrops, Windows

__all__ = [
    "ClassesOrder",
    "ColumnReader",
    "LengthOrder",
    "MiniBatchLoader",
    "MiniBatchPart",
    "RandomCrops",
    "RowsByMiniBatch",
    "SplitMiniBatch",
    "StreamLoader",
    "TypedDict",
    "TypedDictIterable",
    "ValidationDatasetsDict",
    "WeightedOrder",
    "Windows",
    "check_columns",
    "pad",
    "split_iterables",
    "split_to_train_valid_test",
]
