"""``torchbase verify``: whether what a run keeps is whole, and whether training from it repeats itself."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torchbase.command_line.run_records import find_run

if TYPE_CHECKING:
    from torchbase.session.base import TrainingBaseSession


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command.

    Args:
        parser: What parses its arguments.
    """
    parser.description = "Checks that what a run keeps is whole, and, if asked, that training from it repeats itself."
    parser.add_argument("run", metavar="RUN", help="the path of the run directory, or its tag where it is in runs")
    parser.add_argument(
        "--replay", type=_count, metavar="N", help="also do N iterations from the newest whole checkpoint, twice"
    )
    parser.add_argument(
        "--session",
        metavar="FILE:CLASS",
        help="the session's class, where the run directory doesn't tell or its file has moved (with --replay)",
    )
    parser.set_defaults(command=verify)


def verify(given: argparse.Namespace) -> int:
    """Verifies a run.

    Args:
        given: The arguments.

    Returns:
        1 if something is damaged or differs, else 0.
    """
    # Late, since they need torch.
    from torchbase.checkpoints.verification import verify_run
    from torchbase.session.loading import find_session_class

    run_dir = find_run(given.run).absolute()

    def reopen(directory: Path) -> "TrainingBaseSession":
        return find_session_class(run_dir, given.session).resume(directory.parent, directory.name)

    found = verify_run(run_dir, given.replay, reopen)
    sys.stdout.write(f"{found}\n")
    return 0 if found.is_good else 1


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} isn't a number of at least 1")
    return int(word)
