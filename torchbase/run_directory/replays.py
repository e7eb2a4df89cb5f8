"""The orders of a replay: a file by which ``torchbase replay`` says to the session of a program what to train again.

The environment variable ``TORCHBASE_REPLAY`` of the program has the path of the file.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import os_errors_explained
from torchbase.run_directory.fingerprints import After, Place

ORDERS_VARIABLE = "TORCHBASE_REPLAY"
TRACE_FILE = "trace.jsonl"


@dataclass(frozen=True)
class ReplayOrders:
    """What a session replays.

    Attributes:
        run: The directory of the run. Nothing is written into it.
        copy: The directory in which the session trains. It has what the run had at its start, or at a checkpoint.
        records: The folder for fingerprints and the trace.
        until: The place at which the replay ends.
        first_traced: The first iteration that is traced; 0 if none is.
        last_traced: The last one.
    """

    run: Path
    copy: Path
    records: Path
    until: Place
    first_traced: int = 0
    last_traced: int = 0

    def is_traced(self, iteration: int) -> bool:
        """Whether an iteration is traced.

        Args:
            iteration: The iteration; the first is 1.
        """
        return self.first_traced <= iteration <= self.last_traced and iteration > 0


def write_orders(file: Path, orders: ReplayOrders) -> None:
    """Writes orders.

    Args:
        file: The file.
        orders: The orders.
    """
    value = {name: str(one) if isinstance(one, Path) else one for name, one in asdict(orders).items()}
    file.write_text(json.dumps(value), encoding="utf-8")


def read_orders() -> ReplayOrders | None:
    """Reads the orders to which the environment variable leads.

    Returns:
        The orders; None if the variable isn't set.

    Raises:
        RunDirectoryError: If they can't be read.
    """
    name = os.environ.get(ORDERS_VARIABLE)
    if not name:
        return None
    with os_errors_explained("read", Path(name)):
        text = Path(name).read_text(encoding="utf-8")
    try:
        value = json.loads(text)
        iteration, after = value["until"]
        if after not in get_args(After):
            raise ValueError(after)
        run, copy, records = (Path(value[key]) for key in ("run", "copy", "records"))
        traced = int(value["first_traced"]), int(value["last_traced"])
        return ReplayOrders(run, copy, records, (int(iteration), after), *traced)
    except (ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"{name}, which the environment variable {ORDERS_VARIABLE} names, has no orders of a replay: {error!r}. To "
            f"fix, unset the variable. `torchbase replay` sets it for the program that it starts."
        ) from error
