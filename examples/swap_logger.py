"""Replaces TensorBoard by other logging backends: values are written as JSON lines and as a table.

    python examples/swap_logger.py

Two lines replace TensorBoard by another backend of torchbase. The second backend here is custom: it defines the file to
append to, how to open it, and how to append a record. Both are written in a thread beside the training, and truncated
when a run is resumed from a checkpoint.
"""

import json
from pathlib import Path

from digits import CONFIG, DigitsSession

from torchbase.hooks import JsonLines
from torchbase.logging_backends import AppendOnlyFile, FileBackend, HyperParameters, Scalars


class EpochTable(FileBackend):
    """Writes epochs.txt: a line for each value of an epoch, and a line for each hyper-parameter."""

    pattern = "epochs.txt"

    def open_file(self, folder):
        return AppendOnlyFile(folder / "epochs.txt")

    def append(self, file, record):
        match record:
            case Scalars(values, step):
                lines = [f"{step:4} {value:10.5f} {tag}" for tag, value in values.items() if tag.endswith("/epochs")]
            case HyperParameters(values):
                lines = [f"{name} = {value}" for name, value in values.items()]
            case _:
                lines = []
        for line in lines:
            file.append(f"{line}\n".encode())


if __name__ == "__main__":
    session = DigitsSession({**CONFIG, "session": {**CONFIG["session"], "num_epochs": 3}})
    session.unregister("tensorboard")
    session.register(JsonLines())
    session.register(EpochTable())
    summary = session()
    lines = (Path(summary.run_dir) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if json.loads(line)["kind"] == "scalar"]
    print(f"{len(values)} values were recorded")
    print(f"the run is in {summary.run_dir}")
