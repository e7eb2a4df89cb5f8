"""``torchbase verify``: whether the files of a run are intact, and whether training from them is reproducible."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torchbase.command_line.run_records import find_run

if TYPE_CHECKING:
    from torchbase.session.base import TrainingBaseSession


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments.

    Args:
        parser: The parser of the command.
    """
    parser.description = "Checks that the files of a run are intact, and optionally that training is reproducible."
    parser.add_argument("run", metavar="RUN", help="the path of the run directory, or its tag if it is in runs")
    parser.add_argument(
        "--replay", type=_count, metavar="N", help="also run N iterations from the newest intact checkpoint, twice"
    )
    parser.add_argument(
        "--session",
        metavar="FILE:CLASS",
        help="the session's class, if the run directory doesn't record it or its file has moved (with --replay)",
    )
    parser.set_defaults(command=verify)


def verify(options: argparse.Namespace) -> int:
    """Verifies a run.

    Args:
        options: The parsed arguments.

    Returns:
        1 if something is damaged or differs, else 0.
    """
    # These modules import torch.
    from torchbase.checkpoints.verification import verify_run
    from torchbase.session.loading import find_session_class

    run_dir = find_run(options.run).absolute()

    def reopen(directory: Path) -> "TrainingBaseSession":
        return find_session_class(run_dir, options.session).resume(directory.parent, directory.name)

    report = verify_run(run_dir, options.replay, reopen)
    sys.stdout.write(f"{report}\n")
    return 0 if report.is_good else 1


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} isn't an integer of at least 1")
    return int(text)
