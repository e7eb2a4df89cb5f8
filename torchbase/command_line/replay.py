"""``torchbase replay``: trains some iterations of a run again, and says whether they have the recorded bits."""

import argparse
import shlex
import sys
from pathlib import Path

from torchbase.command_line.replay_programs import Program, find_program, run_program
from torchbase.command_line.replay_reports import Investigation
from torchbase.command_line.run_records import find_run


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments.

    Args:
        parser: The parser of the command.
    """
    parser.description = (
        "Starts the program of a run again, in a temporary folder, and compares the bits of each iteration with the "
        "fingerprints of the run. If they differ, it narrows down where and why."
    )
    parser.add_argument("run", metavar="RUN", help="the path of the run directory, or its tag if it is in runs")
    parser.add_argument(
        "--to", type=_count, metavar="N", help="the last iteration; by default that of the last fingerprint"
    )
    parser.add_argument(
        "--from-start", action="store_true", help="begin at the first iteration, not at the oldest checkpoint"
    )
    parser.add_argument(
        "--trace",
        nargs=2,
        type=_count,
        metavar=("FIRST", "LAST"),
        help="only write what each hook changes in these iterations to a file, for torchbase compare FILE FILE",
    )
    parser.add_argument(
        "--program",
        type=shlex.split,
        metavar="COMMAND",
        help="the program, such as 'python train.py', to start in this folder; by default that of the run",
    )
    parser.set_defaults(command=replay, start=run_program)


def replay(options: argparse.Namespace) -> int:
    """Replays a run.

    Args:
        options: The parsed arguments.

    Returns:
        0 if the bits are those of the run, 1 if they differ.

    Raises:
        RunDirectoryError: If the run has no fingerprints, its program isn't known, or the program doesn't train it.
    """
    run_dir = find_run(options.run).absolute()
    program = Program(options.program, Path.cwd()) if options.program else find_program(run_dir)
    traced = None if options.trace is None else (options.trace[0], options.trace[1])
    investigation = Investigation(run_dir, options.to, options.from_start, traced)
    sys.stdout.write(f"{investigation.describe_plan(program)}\n")
    sys.stdout.flush()
    lines, is_same = investigation.report(program, options.start)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0 if is_same else 1


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} isn't an integer of at least 1")
    return int(text)
