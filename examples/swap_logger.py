"""Another logging backend: values go to a file of JSON lines in place of TensorBoard.

    python examples/swap_logger.py

A backend is a hook that implements those of the ``log_…`` events that it can record. Two lines swap it; nothing else
changes.
"""

import json
from pathlib import Path

from digits import CONFIG, DigitsSession

from torchbase import hookimpl

SCALARS_FILE = "scalars.jsonl"
HPARAMS_FILE = "hparams.json"


class JsonLines:
    """Writes each value as a line of JSON: ``{"tag": "training/loss/iterations", "step": 1, "value": 2.3}``."""

    @hookimpl
    def log_scalars(self, run, scalars, step):
        lines = [json.dumps({"tag": tag, "step": step, "value": value}) + "\n" for tag, value in scalars.items()]
        # Appended to, because a run that is resumed goes on in the same file.
        with (run.run_directory.path / SCALARS_FILE).open("a", encoding="utf-8") as file:
            file.writelines(lines)

    @hookimpl
    def log_hparams(self, run, hparams, metrics):
        text = json.dumps({"hparams": hparams, "metrics": metrics}, indent=2)
        (run.run_directory.path / HPARAMS_FILE).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    session = DigitsSession({**CONFIG, "session": {**CONFIG["session"], "num_epochs": 3}})
    session.unregister("tensorboard")
    session.register(JsonLines())
    summary = session()
    lines = (Path(summary.run_dir) / SCALARS_FILE).read_text(encoding="utf-8").splitlines()
    print(f"{len(lines)} values were recorded")
    print(f"the run is in {summary.run_dir}")
