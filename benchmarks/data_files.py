"""What reading from a file costs, and how the cost depends on the number of rows.

The table of a file that `datasets` wrote is in chunks of 1,000 rows. All files are new, and read once before the clock
starts, so that the disk isn't measured.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from data_path import HEAD, SIZE, Contender, check_bounds, clock, compare_ratios, describe_turns, mini_batches_of
from datasets import Dataset
from measuring import NOTHING, Outcome

from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.randomness.run_randomness import Randomness

REPETITIONS = 31
MICROSECONDS = 2.5  # the bound for a sample
MANY, FEW, PIECE = 5_000_000, 50_000, 1000
WIDTH = 8
FAR_AWAY = 100_000
SEEKS = 20
MEGABYTES_OF_NOISE = 4.0
MEMORY_PROGRAM = """
import json, pathlib, sys, warnings
sys.path.insert(0, sys.argv[1])
from data_files import Dataset, mini_batches_of

def anonymous_memory():
    status = pathlib.Path("/proc/self/status").read_text().splitlines()
    return [int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon")][0]

def read(path):
    before = anonymous_memory()
    dataset = Dataset.from_file(path)
    opened = anonymous_memory()
    mini_batches = mini_batches_of(dataset)
    for _ in range(3000):
        next(mini_batches)
    return opened - before, anonymous_memory() - opened

read(sys.argv[3])  # memory that any first file takes
print(json.dumps(read(sys.argv[2])))
"""


def measure() -> Outcome:
    """Measures reading from files."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        few, few_in_one, many, many_in_few = (
            write(folder, rows, piece) for rows, piece in ((FEW, PIECE), (FEW, FEW), (MANY, PIECE), (MANY, 10 * PIECE))
        )
        rows = [
            *compare_ratios(
                [
                    Contender(f"{FEW:,} rows in chunks of {PIECE:,}", clock_reading(few), most=MICROSECONDS),
                    Contender(f"{FEW:,} rows in one chunk", clock_reading(few_in_one)),
                ],
                REPETITIONS,
            ),
            *compare_ratios(
                [
                    Contender(f"{MANY:,} rows in chunks of {PIECE:,}", clock_reading(many), most=MICROSECONDS),
                    Contender(f"{MANY:,} rows in chunks of {10 * PIECE:,}", clock_reading(many_in_few)),
                ],
                REPETITIONS,
            ),
            *compare_ratios(
                [
                    Contender(f"{MANY:,} rows: to the first mini-batch", clock_seeking(many, 0)),
                    Contender(f"{MANY:,} rows: to mini-batch {FAR_AWAY:,}", clock_seeking(many, FAR_AWAY), most=1.1),
                ],
                REPETITIONS,
            ),
            *memory_rows(few, many),
        ]
    return Outcome(
        "data_files: reading samples from files",
        f"Shuffled mini-batches of {SIZE}: a list of {WIDTH} floats and a label each, from memory-mapped Arrow files. "
        "The memory is the private memory of the process (RssAnon) for opening the file and for 3,000 mini-batches, in "
        f"addition to what the first file in a process takes. {describe_turns(REPETITIONS)}",
        HEAD,
        rows,
    )


def write(folder: Path, number_of_rows: int, piece: int) -> Path:
    """Writes an Arrow file as `datasets` does.

    Args:
        folder: The folder.
        number_of_rows: The number of rows.
        piece: The number of rows per chunk.
    """
    path = folder / f"{number_of_rows}-{piece}.arrow"
    numbers = np.random.default_rng(1).random(piece * WIDTH, dtype=np.float32)
    lists = pa.ListArray.from_arrays(np.arange(0, piece * WIDTH + 1, WIDTH, dtype=np.int32), numbers)
    schema = pa.schema({"x": lists.type, "label": pa.int64()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for begin in range(0, number_of_rows, piece):
            writer.write_batch(pa.record_batch([lists, np.arange(begin, begin + piece)], schema=schema))
    return path


def open_file(path: Path) -> Dataset:
    """Opens a file and reads all of it."""
    dataset = Dataset.from_file(str(path))
    table = dataset.data.table
    pc.sum(pc.list_flatten(table.column("x")))
    pc.sum(table.column("label"))
    return dataset


def clock_reading(path: Path) -> Callable[[], float]:
    """Returns a function that measures reading mini-batches of a file."""
    return clock(mini_batches_of(open_file(path)))


def clock_seeking(path: Path, start: int) -> Callable[[], float]:
    """Returns a function that measures the seconds until an epoch has yielded its mini-batch ``start``, per sample."""
    dataset = open_file(path)
    loader = MiniBatchLoader(dataset, EpochOrder(len(dataset), SIZE, True, "training", Randomness(1)))
    epochs: Iterator[int] = count(1)

    def measure_seeks() -> float:
        started_at = perf_counter()
        for _ in range(SEEKS):
            next(loader.mini_batches(next(epochs), start))
        return (perf_counter() - started_at) / (SEEKS * SIZE)

    return measure_seeks


def memory_rows(few: Path, many: Path) -> list[list[str]]:
    """Returns the rows with the memory that a process takes for either file."""
    memory = {rows: memory_of(path, few) for rows, path in ((FEW, few), (MANY, many))}
    bound = memory[FEW][1] + MEGABYTES_OF_NOISE
    return [
        [
            f"{rows:,} rows: memory, opened by datasets {opened:.1f} MB, then read {read:.1f} MB",
            *[NOTHING] * 3,
            NOTHING if rows == FEW else f"read at most {bound:.1f} MB",
            NOTHING if rows == FEW else check_bounds(read, None, bound),
        ]
        for rows, (opened, read) in memory.items()
    ]


def memory_of(path: Path, other: Path) -> Any:
    """Measures the memory of a new process, in MB: for opening the file, and for reading it."""
    command = [sys.executable, "-c", MEMORY_PROGRAM, str(Path(__file__).parent), str(path), str(other)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
