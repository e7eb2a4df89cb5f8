"""``torchbase export``: the network of a run as a file for programs that don't need torchbase."""

import argparse
import shlex
import sys
from pathlib import Path

from torchbase.command_line.run_records import find_run


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments.

    Args:
        parser: The parser of the command.
    """
    parser.description = (
        "Writes the network of a run to a file: the weights as safetensors, or the network as a program of "
        "torch.export (.pt2) or as ONNX (.onnx)."
    )
    parser.add_argument("run", metavar="RUN", help="the path of the run directory, or its tag if it is in runs")
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="the file, whose name ends with .safetensors, .pt2 or .onnx (default: TAG.safetensors)",
    )
    parser.add_argument(
        "--network",
        default="best",
        metavar="NETWORK",
        help="best (the default), last (of the newest checkpoint), or a file of best_networks that KeepBest saved",
    )
    parser.add_argument(
        "--session",
        metavar="FILE:CLASS",
        help="the session's class, if the run directory doesn't record it or its file has moved (.pt2, .onnx)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.set_defaults(command=export)


def export(options: argparse.Namespace) -> int:
    """Exports the network of a run.

    Args:
        options: The parsed arguments.

    Returns:
        0.
    """
    # These modules import torch.
    from torchbase.export.exporting import export_network
    from torchbase.session.loading import find_session_class

    run_dir = find_run(options.run).absolute()
    file = Path(f"{run_dir.name}.safetensors") if options.file is None else options.file
    chosen = None
    if options.session is not None:
        command = f"torchbase export {shlex.quote(options.run)} {shlex.quote(str(file))} --session FILE.py:CLASS"
        chosen = find_session_class(run_dir, options.session, remedy=f"run: {command}")
    exported = export_network(run_dir, file, options.network, chosen, options.overwrite)
    described = exported.description
    epoch = "of an unknown epoch" if described["epoch"] is None else f"of epoch {described['epoch']}"
    sys.stdout.write(f"written: {file}, network '{options.network}' of {run_dir.name}, {epoch}\n")
    for name, shape in described.get("inputs", {}).items():
        sys.stdout.write(f"input {name}: {shape}\n")
    return 0
