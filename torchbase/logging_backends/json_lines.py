"""Records as lines of JSON, in a stable format."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from torchbase.engine.run import Run
from torchbase.files.append_only import AppendOnlyFile
from torchbase.logging_backends.file_base import FileBackend
from torchbase.logging_backends.records import ChartLayout, Histogram, HyperParameters, Image, Record, Scalars, Text

FILE = "log.jsonl"
IMAGES = "log_pictures"
FORMAT_VERSION = 1


class JsonLines(FileBackend[AppendOnlyFile]):
    """Writes ``log.jsonl`` into the run directory: one JSON object per line, each value on its own line.

    ::

        {"kind": "format", "version": 1}
        {"kind": "scalar", …, "tag": "training/loss/epochs", "step": 1, "value": 2.3}
        {"kind": "text", "time": …, "tag": "note", "step": 1, "text": "**bold**"}
        {"kind": "image", …, "tag": "digit", "step": 1, "file": "log_pictures/….png"}
        {"kind": "figure", …, "tag": "matrix", "step": 1, "file": "log_pictures/….png"}
        {"kind": "histogram", …, "edges": [0.0, …], "counts": [3, …]}
        {"kind": "hparams", …, "hparams": {"session.num_epochs": 2, …}, "metrics": {…}}
        {"kind": "layout", …, "layout": {"losses": {"loss": ["training/loss/epochs", …]}}}

    ``time`` is in seconds since 1970. JSON has no numbers for NaN and infinity: they are written as the strings
    ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which ``float()`` accepts. Images and figures are PNG files in the
    folder ``log_pictures``. A reader ignores unknown kinds, and an incomplete line at the end of a run in progress. The
    version changes when the format changes in a way that a reader has to handle.
    """

    pattern = FILE

    def begin(self, run: Run) -> None:
        """Removes what will be recorded again, including images; see `FileBackend.begin`."""
        super().begin(run)
        if self.folder is not None:
            _remove_later_images(self.folder)

    def open_file(self, folder: Path) -> AppendOnlyFile:
        """Opens the file, or creates it; see `FileBackend.open_file`."""
        file = AppendOnlyFile(folder / FILE)
        if file.size == 0:
            file.append(_line({"kind": "format", "version": FORMAT_VERSION}))
        return file

    def append(self, file: AppendOnlyFile, record: Record) -> None:
        """Appends lines, and writes an image file; see `FileBackend.append`."""
        if isinstance(record, Image):
            file.append(_line(_save_image(file, record)))
            return
        for line in _lines_of(record):
            file.append(_line(line))


def _lines_of(record: Record) -> Iterator[dict[str, Any]]:
    time = round(record.time, 3)
    match record:
        case Scalars(values, step):
            for tag, value in values.items():
                yield {"kind": "scalar", "time": time, "tag": tag, "step": step, "value": _json_value(value)}
        case Text(tag, text, step):
            yield {"kind": "text", "time": time, "tag": tag, "step": step, "text": text}
        case Histogram(tag, _, step):
            counts, edges = record.binned()
            yield {"kind": "histogram", "time": time, "tag": tag, "step": step, "edges": edges, "counts": counts}
        case HyperParameters(values, metrics):
            yield {"kind": "hparams", "time": time, "hparams": _json_value(values), "metrics": _json_value(metrics)}
        case ChartLayout(layout):
            yield {"kind": "layout", "time": time, "layout": layout}


def _save_image(file: AppendOnlyFile, record: Image) -> dict[str, Any]:
    # The number is the position of the image's line in the file. It is unique, and an image that is recorded again
    # replaces the earlier file.
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", record.tag)[:80]
    name = f"{IMAGES}/{file.size:012d}_{readable}_{record.step}.png"
    path = file.path.parent / name
    path.parent.mkdir(exist_ok=True)
    _write_png(path, record.pixels)
    kind, time = "figure" if record.is_figure else "image", round(record.time, 3)
    return {"kind": kind, "time": time, "tag": record.tag, "step": record.step, "file": name}


def _write_png(path: Path, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    from PIL import Image as PillowImage

    is_greyscale = pixels.shape[2] == 1
    PillowImage.fromarray(pixels[:, :, 0] if is_greyscale else pixels).save(path, "PNG")


def _remove_later_images(folder: Path) -> None:
    log = folder / FILE
    size = log.stat().st_size if log.exists() else 0
    for path in (folder / IMAGES).glob("*_*.png"):
        position = path.name.partition("_")[0]
        if position.isdecimal() and int(position) >= size:
            path.unlink()


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False, default=str).encode() + b"\n"
