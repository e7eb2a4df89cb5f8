"""The network of a run, as a table."""

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from torchbase.command_line.run_records import attempt
from torchbase.command_line.terminal import (
    FAINT,
    HEADER,
    PAGE_WIDTH,
    Trimmed,
    crop,
    make_table,
    plain,
    text_width,
)
from torchbase.run_directory.network_record import (
    ModuleRecord,
    NetworkRecord,
    TensorRecord,
    describe_network,
    format_count,
    format_size,
    read_network,
)

ROWS_SHOWN = 16
NAME_WIDTH = 28  # at most
NUMBERS_WIDTH = 38  # of the three columns of numbers, with the space before them


def write_network(console: Console, run: Path, *, whole: bool) -> list[str]:
    """Writes the network of a run, if the run has recorded it.

    Args:
        console: The console.
        run: The run directory.
        whole: Whether to list all modules, with the shapes of their parameters and buffers. By default, these are the
            outer ones, at most 16.

    Returns:
        What can't be read, and why.
    """
    damages: list[str] = []
    record = attempt(lambda: read_network(run), damages)
    if record is not None:
        shown = list(record.modules) if whole else _outer_modules(record)
        console.print()
        console.print(Text("network", style=HEADER))
        console.print(Trimmed(_lines(record)))
        console.print(Trimmed(_table(shown, whole=whole)))
        if len(shown) < len(record.modules):
            more = f"  … {len(record.modules) - len(shown):,} more modules: torchbase show RUN --network"
            console.print(Text(more, style=FAINT))
    return damages


def _lines(record: NetworkRecord) -> Text:
    lines = [f"  {describe_network(record)}"]
    if record.optimizers:
        trained = [f"{plain(name)} {format_count(count)}" for name, count in record.optimizers.items()]
        lines.append(f"  optimizers: {', '.join(trained)}")
    return Text("\n".join(lines))


def _outer_modules(record: NetworkRecord) -> list[ModuleRecord]:
    depths = [_depth(module) for module in record.modules]
    deepest = max((depth for depth in set(depths) if sum(one <= depth for one in depths) <= ROWS_SHOWN), default=0)
    shown = [module for module, depth in zip(record.modules, depths, strict=True) if depth <= max(1, deepest)]
    return shown[:ROWS_SHOWN]


def _depth(module: ModuleRecord) -> int:
    return module.name.count(".") + 1 if module.name else 0


def _table(modules: list[ModuleRecord], *, whole: bool) -> Table:
    numbers = ("parameters", "trainable", "size")
    table = make_table("  module", "type", *numbers, right=numbers)
    for column in table.columns[2:]:
        column.no_wrap = True  # so that no number is broken
    names = [_name_of(module) for module in modules]
    if not whole:
        names = [crop(name, NAME_WIDTH) for name in names]
    room = PAGE_WIDTH - NUMBERS_WIDTH - max(map(text_width, names))
    for name, module in zip(names, modules, strict=True):
        kind = plain(module.kind) if whole else crop(plain(module.kind), room)
        counts = [format_count(module.parameters), format_count(module.trainable), format_size(module.size)]
        table.add_row(name, kind, *counts)
        for tensor in module.tensors if whole else ():
            inner = "  " * (_depth(module) + 2) + plain(tensor.name)
            table.add_row(inner, _describe(tensor), *_counts_of(tensor))
    return table


def _name_of(module: ModuleRecord) -> str:
    return "  " * (_depth(module) + 1) + plain(module.name.rpartition(".")[2] or "network")


def _describe(tensor: TensorRecord) -> str:
    if tensor.same_as is not None:
        return f"is {plain(tensor.same_as)}"
    shape = "not known yet" if tensor.shape is None else str(tensor.shape)
    return f"{shape} {plain(tensor.dtype)}{' buffer' if tensor.is_buffer else ''}"


def _counts_of(tensor: TensorRecord) -> list[str]:
    if tensor.is_buffer or tensor.shape is None or tensor.same_as is not None:
        return []
    count = math.prod(tensor.shape)
    return [format_count(count), format_count(count if tensor.is_trainable else 0)]
