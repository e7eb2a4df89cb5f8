"""The network of a run as a file, in the format that the name of the file says."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, get_args

from torchbase.errors import RunDirectoryError, did_you_mean
from torchbase.export.description import describe
from torchbase.export.weights import write_weights
from torchbase.files.durable import os_errors_explained, write_durably
from torchbase.optional_packages import load
from torchbase.session.saved_network import WhichNetwork, read_saved_network

if TYPE_CHECKING:
    from torchbase.session.base import TrainingBaseSession

Write = Callable[[BinaryIO, str], object]  # called with the file, and with the text that describes the run

NEEDS = {".safetensors": ("safetensors",), ".pt2": (), ".onnx": ("onnx", "onnxscript")}
EXTRA = "'torchbase[export]'"


@dataclass(frozen=True)
class ExportedNetwork:
    """A file with the network of a run.

    Attributes:
        path: The file.
        description: What the file says of its run: ``run``, ``session``, ``network``, ``epoch``, ``iterations``,
            ``config``, ``averages``, ``best_losses``, ``trained_with`` and ``exported_with``. For a program also
            ``inputs``: the type and the shape of each input, with ``any`` for a dimension that may have any length.
    """

    path: Path
    description: Mapping[str, Any]


def export_network(
    run_dir: str | Path,
    path: str | Path,
    network: WhichNetwork = "best",
    session_class: "type[TrainingBaseSession] | None" = None,
    overwrite: bool = False,
) -> ExportedNetwork:
    """Writes the network of a run to a file for programs that don't need torchbase.

    Args:
        run_dir: The path of the run directory. Nothing in it changes.
        path: The file. Its name ends with the format: ``.safetensors`` for the weights, ``.pt2`` for a program of
            ``torch.export``, ``.onnx`` for ONNX.
        network: ``"best"`` or ``"last"``, that of the newest checkpoint.
        session_class: The class that trained the run, for the formats with a program. By default, the class that the
            run directory names, which is imported.
        overwrite: Whether an existing file is replaced.

    Returns:
        The file, and what it says of its run.

    Raises:
        RunDirectoryError: If the run has saved no such network, the file exists, or the format can't hold the network.
        HookError: If a package that the format needs isn't installed.
        StepError: If ``forward_pass`` doesn't call the network, or the network can't become a program.
    """
    directory, file = Path(run_dir).absolute(), Path(path).absolute()
    if network not in get_args(WhichNetwork):
        raise RunDirectoryError(f"network has to be 'best' or 'last', but got {network!r}.")
    _check_file(file, overwrite)
    for package in NEEDS[file.suffix]:
        load(package, install=EXTRA)
    description = describe(directory, network)
    if file.suffix == ".safetensors":
        write: Write = partial(write_weights, read_saved_network(directory, network))
    else:
        write = _write_program(directory, file, network, session_class, description)
    text = json.dumps(description, allow_nan=False)
    write_durably(file, lambda opened: write(opened, text))
    return ExportedNetwork(file, description)


def _write_program(
    directory: Path,
    file: Path,
    network: WhichNetwork,
    session_class: "type[TrainingBaseSession] | None",
    description: dict[str, Any],
) -> Write:
    # Late, since weights need no session.
    from torchbase.export.example import network_with_calls
    from torchbase.export.program import make_program, write_onnx, write_program

    module, calls = network_with_calls(directory, file, network, session_class)
    program = make_program(module, calls)
    description["inputs"] = program.inputs
    return partial(write_program if file.suffix == ".pt2" else write_onnx, program)


def _check_file(file: Path, overwrite: bool) -> None:
    if file.suffix not in NEEDS:
        raise RunDirectoryError(
            f"{file} doesn't say in which format to write the network.{did_you_mean(file.suffix, NEEDS)} To fix, let "
            f"its name end with {', '.join(NEEDS)}."
        )
    with os_errors_explained("write", file):
        if not file.parent.is_dir():
            raise NotADirectoryError(20, "the folder above it is missing")
    if file.exists() and not overwrite:
        raise RunDirectoryError(
            f"{file} exists already, and isn't overwritten. To fix, choose another name, or pass overwrite=True "
            "(--overwrite)."
        )
