"""What reading a sample costs in the process that uses it, compared with PyTorch's usual loader.

The rows of the table form groups. A group is measured in turns, and compared with its first member.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from tempfile import NamedTemporaryFile
from time import perf_counter
from typing import Any

import numpy as np
import torch
from datasets import Array3D, Dataset, Features, List, Value
from measuring import NOT_INSTALLED, NOTHING, Outcome, Sample, Side, take_turns
from torch.utils.data import DataLoader, TensorDataset

from torchbase.data import ClassesOrder, LengthOrder, RandomCrops, WeightedOrder, Windows
from torchbase.data.loader import MiniBatchLoader
from torchbase.data.order import EpochOrder
from torchbase.data.own_order import OrderFunction, OwnOrder
from torchbase.data.own_order_loader import OwnOrderLoader
from torchbase.randomness.run_randomness import Randomness

SIZE = 32
REPETITIONS = 15
MINI_BATCHES = 50
IMAGES, TABLE_ROWS, TABLE_COLUMNS = 5_000, 20_000, 20
TOKENS, WINDOW = 4_000_000, 257
STOCK = f'DataLoader(dataset.with_format("torch"), batch_size={SIZE}, shuffle=True)'
HEAD = ["what", "median µs per sample", "minimum", "times the first of the group", "bound", "met?"]


@dataclass(frozen=True)
class Contender:
    """A member of a group.

    Attributes:
        name: Its name in the table.
        measure: Runs one repetition and returns the seconds per sample; None if a package isn't installed.
        least: The minimum of its time, as a multiple of the first member's time.
        most: The maximum of its time, as a multiple of the first member's time; for the first member, in µs.
    """

    name: str
    measure: Callable[[], float] | None
    least: float | None = None
    most: float | None = None


def measure() -> Outcome:
    """Measures reading alone; the samples aren't used."""
    rows = []
    for name, dataset, most, least in (
        ("digits, 8 by 8", digits(), 6, 25),
        ("digits, a list of 64", digits(flat=True), 6, 10),
        ("images, 3 by 32 by 32, nested lists", images(List(List(List(Value("float32"))))), None, 10),
        ("images, 3 by 32 by 32, Array3D", images(Array3D((3, 32, 32), "float32")), None, 10),
        (f"a table of {TABLE_COLUMNS} floats and a string", table(), None, 10),
    ):
        rows += compare_ratios(
            [
                Contender(f"{name}: torchbase", clock(mini_batches_of(dataset)), most=most),
                Contender(f"{name}: stock loader", clock(stock_mini_batches_of(dataset)), least=least),
            ],
            REPETITIONS,
        )
    rows += compare_ratios(own_orders(), REPETITIONS)
    rows += compare_ratios(samples_of_torch(), REPETITIONS)
    rows += compare_ratios(windows(), REPETITIONS)
    return Outcome(
        "data_path: reading samples",
        f"Shuffled mini-batches of {SIZE} from a dataset in memory. The stock loader is {STOCK}. {describe_turns()}",
        HEAD,
        rows,
    )


def own_orders() -> list[Contender]:
    """Returns readings of one dataset in the default order, and in orders of the user."""
    dataset = digits()
    labels, rows = dataset["label"][:], len(dataset)
    orders: dict[str, OrderFunction] = {
        "WeightedOrder": WeightedOrder.balancing(labels),
        "ClassesOrder": ClassesOrder(labels, 8, SIZE // 8),
        "LengthOrder": LengthOrder(labels, SIZE),
        "a function": lambda epoch, generator: torch.randperm(rows, generator=generator),
    }
    contenders = [
        Contender("digits, 8 by 8: stock loader", clock(stock_mini_batches_of(dataset))),
        Contender("digits, 8 by 8: torchbase, shuffled", clock(mini_batches_of(dataset)), most=0.1),
    ]
    for name, function in orders.items():
        loader = OwnOrderLoader(dataset, OwnOrder(function, rows, SIZE, "training", Randomness(1)))
        contenders.append(Contender(f"digits, 8 by 8: torchbase, {name}", clock(endless(loader)), most=0.1))
    return contenders


def samples_of_torch() -> list[Contender]:
    """Returns readings of a dataset of torch, whose samples are read one by one."""
    dataset = TensorDataset(torch.rand(IMAGES, 3, 32, 32), torch.arange(IMAGES))
    stock = DataLoader(dataset, batch_size=SIZE, shuffle=True)
    return [
        Contender("images, TensorDataset: stock loader", clock(repeated(stock))),
        Contender("images, TensorDataset: torchbase", clock(mini_batches_of(dataset)), most=2),
    ]


def windows() -> list[Contender]:
    """Returns readings of windows of a memory map of tokens."""
    file = NamedTemporaryFile(suffix=".bin")  # noqa: SIM115, since it has to exist as long as the contenders
    np.random.default_rng(1).integers(0, 50_000, TOKENS, dtype=np.uint16).tofile(file.name)
    tokens = np.memmap(file.name, dtype=np.uint16, mode="r")

    def by_hand() -> Iterator[Any]:
        while file:
            starts = torch.randint(len(tokens) - WINDOW, (SIZE,)).tolist()
            yield torch.stack([torch.from_numpy(tokens[one : one + WINDOW].astype(np.int64)) for one in starts])

    return [
        Contender(f"windows of {WINDOW} tokens: slicing by hand", clock(by_hand())),
        Contender(f"windows of {WINDOW} tokens: Windows", clock(mini_batches_of(Windows(tokens, WINDOW))), most=2),
        Contender(
            f"windows of {WINDOW} tokens: RandomCrops", clock(mini_batches_of(RandomCrops(tokens, WINDOW))), most=2
        ),
    ]


def digits(*, flat: bool = False) -> Dataset:
    """Creates a dataset of scikit-learn's digits: 1,797 images of 8 by 8 pixels, or as lists of 64 numbers."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype("float32") / 16.0
    return Dataset.from_dict({"image": images.reshape(-1, 64) if flat else images, "label": bunch.target})


def images(feature: Any) -> Dataset:
    """Creates a dataset of random images of 3 by 32 by 32 pixels.

    Args:
        feature: The feature type of an image.
    """
    pixels = np.random.default_rng(1).random((IMAGES, 3, 32, 32), dtype=np.float32)
    features = Features({"image": feature, "label": Value("int64")})
    return Dataset.from_dict({"image": pixels, "label": np.arange(IMAGES)}, features)


def table() -> Dataset:
    """Creates a dataset with columns of random numbers and a column of names."""
    generator = np.random.default_rng(1)
    columns: dict[str, Any] = {f"number {position}": generator.random(TABLE_ROWS) for position in range(TABLE_COLUMNS)}
    return Dataset.from_dict({**columns, "name": [f"row {row}" for row in range(TABLE_ROWS)]})


def mini_batches_of(dataset: Any) -> Iterator[Any]:
    """Yields mini-batches as a session reads them, epoch after epoch."""
    return endless(MiniBatchLoader(dataset, EpochOrder(len(dataset), SIZE, True, "training", Randomness(1))))


def endless(loader: MiniBatchLoader) -> Iterator[Any]:
    """Yields the mini-batches of a loader, epoch after epoch."""
    for epoch in count(1):
        yield from loader.mini_batches(epoch)


def stock_mini_batches_of(dataset: Dataset) -> Iterator[Any]:
    """Yields mini-batches as PyTorch's loader reads them, epoch after epoch."""
    return repeated(stock_loader(dataset))


def repeated(loader: Any) -> Iterator[Any]:
    """Yields the mini-batches of PyTorch's loader, epoch after epoch."""
    while True:
        yield from loader


def stock_loader(dataset: Dataset) -> Any:
    """Creates PyTorch's usual loader."""
    return DataLoader(dataset.with_format("torch"), batch_size=SIZE, shuffle=True)


def clock(mini_batches: Iterator[Any]) -> Callable[[], float]:
    """Returns a function that measures the seconds per sample of the next mini-batches."""

    def measure_next() -> float:
        started_at = perf_counter()
        for _ in islice(mini_batches, MINI_BATCHES):
            pass
        return (perf_counter() - started_at) / (MINI_BATCHES * SIZE)

    return measure_next


def compare_ratios(group: Sequence[Contender], repetitions: int) -> list[list[str]]:
    """Measures a group in turns and compares each member with the first.

    Args:
        group: The members, the reference first.
        repetitions: The number of turns that count.

    Returns:
        The cells, row by row.
    """
    sides = [Side(contender.name, as_samples(contender.measure)) for contender in group]
    samples = take_turns(sides, repetitions)
    seconds = {name: [sample.each for sample in turns] for name, turns in samples.items()}
    reference = seconds[group[0].name]
    return [_row(contender, seconds.get(contender.name), reference) for contender in group]


def as_samples(measure: Callable[[], float] | None) -> Callable[[], Sample] | None:
    """Wraps a function that returns seconds in a function that returns samples."""
    return None if measure is None else lambda: Sample(measure())


def describe_turns(repetitions: int = REPETITIONS) -> str:
    """Describes how groups are compared."""
    return (
        f"{repetitions} repetitions in turns; times the first of the group: the median and the quartiles of the ratios "
        "within each turn."
    )


def _row(contender: Contender, seconds: list[float] | None, reference: list[float]) -> list[str]:
    bound = _format_bound(contender, is_reference=seconds is reference)
    if seconds is None:
        return [contender.name, NOT_INSTALLED, NOTHING, NOTHING, bound, NOTHING]
    each = [second * 1e6 for second in seconds]
    ratios = [measured / base for measured, base in zip(seconds, reference, strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    compared = statistics.median(each) if seconds is reference else ratio
    comparison = NOTHING if seconds is reference else f"x{ratio:.2f} ({low:.2f} to {high:.2f})"
    return [
        contender.name,
        f"{statistics.median(each):.2f}",
        f"{min(each):.2f}",
        comparison,
        bound,
        check_bounds(compared, contender.least, contender.most),
    ]


def check_bounds(value: float, least: float | None, most: float | None) -> str:
    """Returns "yes" or "NO", whether a value is within its bounds, if it has any."""
    if least is None and most is None:
        return NOTHING
    is_met = (least is None or value >= least) and (most is None or value <= most)
    return "yes" if is_met else "NO"


def _format_bound(contender: Contender, *, is_reference: bool) -> str:
    if contender.least is not None:
        return f"at least x{contender.least:g}"
    if contender.most is not None:
        return f"at most {contender.most:g} µs" if is_reference else f"at most x{contender.most:g}"
    return NOTHING
