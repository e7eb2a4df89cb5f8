"""Made-up run directories: the record of a run, without training."""

import json

from torchbase.command_line import main
from torchbase.engine.votes import Decision, Vote, append_decision
from torchbase.run_directory.record import Epoch, append_epoch, write_status
from torchbase.run_directory.status import Best, Status

STATUS = Status(
    state="finished",
    reason=None,
    epochs_done=3,
    max_epochs=3,
    iterations=30,
    best_losses={"validation-valid": Best(0.25, 2), "validation-demo": Best(0.5, 3)},
    started_at="2026-11-22T14:03:55+01:00",
    resumed_at=None,
    updated_at="2026-11-22T14:13:55+01:00",
    process_id=1234,
    host="host",
)
CONFIG = {
    "session": {"device_name": "cpu", "num_epochs": 3, "mini_batch_size": 4, "learning_rate": 0.1},
    "network": {"architecture": "Line"},
}
AVERAGES = {
    "training": [{"loss": 0.9, "accuracy": 0.5}, {"loss": 0.5, "accuracy": 0.7}, {"loss": 0.125, "accuracy": 0.8}],
    "validation-valid": [{"loss": 0.5}, {"loss": 0.25}, {"loss": 0.375}],
}


def status_with(**values):
    return Status(**{**vars(STATUS), **values})


def make_run(parent, tag, *, status=STATUS, config=CONFIG, averages=AVERAGES, **session):
    """Makes the directory of a run. An argument that is None isn't written."""
    folder = parent / tag
    (folder / "states").mkdir(parents=True)
    (folder / ".lock").touch()
    if config is not None:
        (folder / "config.json").write_text(json.dumps({**config, "session": {**config["session"], **session}}))
    if status is not None:
        write_status(folder, status)
    for epoch in range(1, 1 + max(map(len, averages.values()), default=0)):
        for phase, values in averages.items():
            append_epoch(folder, Epoch(epoch, phase, 10 * epoch, values[epoch - 1]))
    losses = [values["loss"] for values in averages.get("validation-valid", ())]
    for epoch, loss in enumerate(losses, start=1):
        best = min(losses[: epoch - 1], default=None)
        vote = Vote("validation-valid", loss, best, best is None or loss < best)
        append_decision(folder / "votes.jsonl", Decision(epoch, 10 * epoch, vote.is_for, f"reason {epoch}", (vote,)))
    return folder


class Command:
    """Runs the command in this process and captures its output."""

    def __init__(self, capsys):
        self._capsys = capsys

    def __call__(self, *words):
        """Returns the exit status, stdout and stderr."""
        self._capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as end:
            status = end.code
        written = self._capsys.readouterr()
        return status, written.out, written.err
