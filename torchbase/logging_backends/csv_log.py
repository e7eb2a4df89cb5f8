"""Scalars as a table of comma-separated values."""

import csv
import io
from pathlib import Path

from torchbase.files.append_only import AppendOnlyFile
from torchbase.logging_backends.file_base import FileBackend
from torchbase.logging_backends.records import Record, Scalars

FILE = "scalars.csv"
COLUMNS = ("step", "tag", "value")


class CsvLog(FileBackend[AppendOnlyFile]):
    """Writes ``scalars.csv`` into the run directory: a line per value, with the columns ``step``, ``tag``, ``value``.

    All tags share one table, since their steps count different things. To read it::

        table = pandas.read_csv("scalars.csv", converters={"value": float})
        table.pivot(index="step", columns="tag", values="value")

    The converter reads each value exactly. Without it, pandas before 3.1 reads some values with a wrong last digit.

    It stores numbers only. Hyper-parameters are in ``config.json``; texts, images, histograms and charts are ignored.
    """

    pattern = FILE

    def open_file(self, folder: Path) -> AppendOnlyFile:
        """Opens the table, or creates it; see `FileBackend.open_file`."""
        file = AppendOnlyFile(folder / FILE)
        if file.size == 0:
            file.append(_lines([COLUMNS]))
        return file

    def append(self, file: AppendOnlyFile, record: Record) -> None:
        """Appends a line per number; see `FileBackend.append`."""
        if isinstance(record, Scalars):
            file.append(_lines([(record.step, tag, value) for tag, value in record.values.items()]))


def _lines(rows: list[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
