"""The command ``torchbase``, which reads run directories from the shell.

For: the commands ``runs``, ``show``, ``compare``, ``hooks``, ``export`` and ``verify``. Each has its own file, which
begins with ``add`` (its arguments).

In: the arguments of the command line, and files that are read without torch. Out: text on the standard output, and an
exit status. Only ``export``, ``verify --replay`` and ``hooks`` of a session import torch.

Begin with `torchbase.command_line.runs`. `torchbase.command_line.run_records` and
`torchbase.command_line.run_details` read run directories; `torchbase.command_line.terminal` formats the output.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from torchbase.command_line import compare, export, hooks, runs, show, verify
from torchbase.errors import TorchbaseError

COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "runs": (runs.add, "list the runs of a folder"),
    "show": (show.add, "show everything that is recorded about a run"),
    "compare": (compare.add, "compare runs side by side"),
    "hooks": (hooks.add, "list the events, or the hooks that each event calls"),
    "export": (export.add, "write the network of a run for other programs"),
    "verify": (verify.add, "check that the checkpoints of a run are intact"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The arguments after the command's name; by default those of the process.

    Returns:
        The exit status: 0 if all is well, 1 if something is damaged or differs, 2 if the command fails.
    """
    parser = argparse.ArgumentParser(prog="torchbase", description="Reads run directories.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (add, summary) in COMMANDS.items():
        add(commands.add_parser(name, help=summary))
    options = parser.parse_args(arguments)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except TorchbaseError as error:
        sys.stderr.write(f"torchbase: {error}\n")
        return 2
    except BrokenPipeError:  # the reader has read enough, as in `torchbase runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status
