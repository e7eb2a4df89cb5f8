"""The runs of a folder for programs: as JSON, and as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from torchbase.command_line.run_columns import differing_paths_of
from torchbase.command_line.run_keys import ListedRun, phases_of
from torchbase.command_line.terminal import short_names
from torchbase.files.json_values import finite_or_text
from torchbase.run_directory import value_ranges
from torchbase.run_directory.value_ranges import ValueRange


def to_json(runs: Sequence[ListedRun]) -> str:
    """Writes runs as JSON: a list with one object per run, which has everything that is known about it.

    Args:
        runs: The runs.
    """
    paths = differing_paths_of(runs)
    return json.dumps([_as_json(run, paths) for run in runs], indent=2, allow_nan=False)


def to_csv(runs: Sequence[ListedRun]) -> str:
    """Writes runs as CSV: a line of names, and one line per run with all of its values and its whole config.

    Args:
        runs: The runs.

    Returns:
        The lines. What a run doesn't have is empty.
    """
    rows = list(_rows_of(runs))
    names = list({name: None for row in rows for name in row})
    lines = io.StringIO()
    writer = csv.DictWriter(lines, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return lines.getvalue()


def _as_json(listed: ListedRun, paths: Iterable[str]) -> dict[str, Any]:
    run, config = listed.run, listed.config
    return {
        **_facts_of(listed),
        "best_losses": {
            phase: {"loss": finite_or_text(best.loss), "epoch": best.epoch} for phase, best in run.best_losses.items()
        },
        "values": value_ranges.to_json(run.values),
        "differing_config": {path: config[path] for path in paths if path in config},
        "config": run.config,
        "notes": [*run.damages, *run.notes],
    }


def _facts_of(listed: ListedRun) -> dict[str, Any]:
    run, status = listed.run, listed.run.status
    return {
        "run": run.tag,
        "path": str(run.path),
        "group": run.group,
        "state": run.state,
        "reason": status.reason if status is not None else None,
        "epochs_done": run.epochs_done,
        "max_epochs": run.max_epochs,
        "max_iterations": run.max_iterations,
        "iterations": run.iterations,
        "seconds": run.seconds,
        "epoch_seconds": run.epoch_seconds,
        "started_at": status.started_at if status is not None else None,
        "resumed_at": status.resumed_at if status is not None else None,
        "updated_at": status.updated_at if status is not None else None,
    }


def _rows_of(runs: Sequence[ListedRun]) -> Iterable[dict[str, str]]:
    short = short_names(phases_of(listed.run for listed in runs))
    for listed in runs:
        values = {
            f"{short[phase]}/{name}/{field}": one
            for phase, of_phase in listed.run.values.items()
            for name, value in of_phase.items()
            for field, one in zip(ValueRange._fields, value, strict=True)
        }
        notes = "; ".join((*listed.run.damages, *listed.run.notes))
        facts = {**_facts_of(listed), **values, **listed.config, "notes": notes}
        yield {name: _cell(value) for name, value in facts.items()}


def _cell(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(finite_or_text(value)).strip('"') if isinstance(value, float) else json.dumps(value)
