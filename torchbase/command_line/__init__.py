"""The command ``torchbase``: looks at run directories from the shell.

For: ``runs``, ``show``, ``compare``, ``hooks`` and ``verify``, one file a command, which begins with ``add`` (its
arguments).

In: the words of the command line, and files that are read without torch. Out: text on the standard output, and an
exit status. Only ``verify --replay`` and ``hooks`` of a session import torch.

Begin with `torchbase.command_line.runs`. What is read is in `torchbase.command_line.run_records` and
`torchbase.command_line.run_details`; how it is printed is in `torchbase.command_line.terminal`.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from torchbase.command_line import compare, hooks, runs, show, verify
from torchbase.errors import TorchbaseError

COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "runs": (runs.add, "list the runs of a folder"),
    "show": (show.add, "show all that a run tells of itself"),
    "compare": (compare.add, "put runs side by side"),
    "hooks": (hooks.add, "list the events, or the hooks that each of them calls"),
    "verify": (verify.add, "check that a run's checkpoints are whole"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The words behind the command's name; those of the process without them.

    Returns:
        The exit status: 0 if all is well, 1 if something is damaged or differs, 2 if the command can't do its work.
    """
    parser = argparse.ArgumentParser(prog="torchbase", description="Looks at run directories.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (add, summary) in COMMANDS.items():
        add(commands.add_parser(name, help=summary))
    given = parser.parse_args(arguments)
    try:
        status: int = given.command(given)
        sys.stdout.flush()
    except TorchbaseError as error:
        sys.stderr.write(f"torchbase: {error}\n")
        return 2
    except BrokenPipeError:  # as of `torchbase runs | head`: what reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status
