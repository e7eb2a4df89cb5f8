"""The command ``torchbase``, which reads run directories from the shell.

For: the commands ``runs``, ``show``, ``tail``, ``compare``, ``hooks``, ``export``, ``replay`` and ``verify``. Each has
a file, which begins with ``add`` (its arguments). Only the file of the command that runs is imported.

In: the arguments of the command line, and files that are read without torch. Out: text on the standard output, and an
exit status. Only ``export``, ``verify --replay`` and ``hooks`` of a session import torch.

Begin with `torchbase.command_line.runs`. `torchbase.command_line.run_records` and
`torchbase.command_line.run_details` read run directories; `torchbase.command_line.terminal` formats the output.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from torchbase.errors import TorchbaseError

COMMANDS = {  # the names are those of the modules
    "runs": "list the runs of a folder",
    "show": "show everything that is recorded about a run",
    "tail": "follow a run that is training",
    "compare": "compare runs side by side",
    "hooks": "list the events, or the hooks that each event calls",
    "export": "write the network of a run for other programs",
    "replay": "train iterations of a run again, and compare their bits",
    "verify": "check that the checkpoints of a run are intact",
}
_STATUS_OF_CTRL_C = 130  # as of a shell


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The arguments after the command's name; by default those of the process.

    Returns:
        The exit status: 0 if all is well, 1 if something is damaged or differs, 2 if the command fails, 130 if Ctrl-C
        ends it.
    """
    parser = argparse.ArgumentParser(prog="torchbase", description="Reads run directories.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    words = sys.argv[1:] if arguments is None else arguments
    for name, summary in COMMANDS.items():
        of_command = commands.add_parser(name, help=summary)
        if name in words[:1]:
            importlib.import_module(f"{__name__}.{name}").add(of_command)
    options = parser.parse_args(words)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except TorchbaseError as error:
        sys.stderr.write(f"torchbase: {error}\n")
        return 2
    except KeyboardInterrupt:
        return _STATUS_OF_CTRL_C
    except BrokenPipeError:  # the reader has read enough, as in `torchbase runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status
