"""The command ``torchbase``: looks at run directories from the shell."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from torchbase.errors import TorchbaseError
from torchbase.kept_session import find_session_class
from torchbase.session import TrainingBaseSession
from torchbase.verification import verify_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The words behind the command's name; those of the process without them.

    Returns:
        The exit status: 0 if all is well, 1 if something is damaged or differs, 2 if the command can't do its work.
    """
    parser = argparse.ArgumentParser(prog="torchbase", description="Looks at run directories.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_verify(commands.add_parser("verify", help="check that a run's checkpoints are whole"))
    given = parser.parse_args(arguments)
    try:
        status: int = given.command(given)
    except TorchbaseError as error:
        sys.stderr.write(f"torchbase: {error}\n")
        return 2
    return status


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.description = "Checks that what a run keeps is whole, and, if asked, that training from it repeats itself."
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="the directory of the run")
    parser.add_argument(
        "--replay", type=_count, metavar="N", help="also do N iterations from the newest whole checkpoint, twice"
    )
    parser.add_argument(
        "--session",
        metavar="FILE:CLASS",
        help="the session's class, where the run directory doesn't tell or its file has moved (with --replay)",
    )
    parser.set_defaults(command=_verify)


def _verify(given: argparse.Namespace) -> int:
    run_dir: Path = given.run_dir.absolute()

    def reopen(directory: Path) -> TrainingBaseSession:
        return find_session_class(run_dir, given.session).resume(directory.parent, directory.name)

    found = verify_run(run_dir, given.replay, reopen)
    sys.stdout.write(f"{found}\n")
    return 0 if found.is_good else 1


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} isn't a number of at least 1")
    return int(word)
