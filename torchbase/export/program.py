"""The network as a program, written by ``torch.export`` or as ONNX: https://docs.pytorch.org/docs/stable/export.html."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from torchbase.errors import RunDirectoryError, StepError, list_first
from torchbase.export.example import Call
from torchbase.files.nested import map_leaves
from torchbase.optional_packages import load
from torchbase.randomness.streams import isolate_rng

ANY = "any"
_logger = logging.getLogger("torchbase")
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Program:
    """A network as a program.

    Attributes:
        exported: The program.
        inputs: The type and shape of each input by name, with ``any`` for a dimension that may have any length.
        output_names: The names of its outputs: their keys in a dictionary, their positions in a tuple.
    """

    exported: torch.export.ExportedProgram
    inputs: dict[str, str]
    output_names: list[str]


def make_program(network: torch.nn.Module, calls: Sequence[Call]) -> Program:
    """Turns a network into a program, and checks that it computes the same.

    Dimensions in which the calls differ may have any length.

    Args:
        network: The network on the CPU, in evaluation mode.
        calls: What it is called with, for mini-batches of several sizes.

    Returns:
        The program.

    Raises:
        StepError: If the network can't become a program, or the program computes something else.
    """
    first, *others = calls
    shapes: Any = torch.export.AdditionalInputs()  # type: ignore[no-untyped-call]
    for call in others:
        shapes.add(call.args, call.kwargs)
    try:
        dynamic = shapes.dynamic_shapes(network, first.args, first.kwargs)
        with torch.no_grad(), isolate_rng(_CPU):
            exported = torch.export.export(network, first.args, first.kwargs, dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # a network may hold anything, and torch.export raises almost any error
        raise StepError(
            f"{type(network).__name__} can't become a program: torch.export raised {type(error).__name__}: {error}\n"
            "To fix, change its forward as https://docs.pytorch.org/docs/stable/export.html says, or export the "
            "weights, to a file that ends with .safetensors."
        ) from error
    output_names = _check_outputs(network, exported.module(), calls)
    inputs = _inputs_of(exported)
    if not any(ANY in shape for shape in inputs.values()):
        _logger.warning(
            "The program takes inputs of these shapes only: %s. They are the same for mini-batches of several sizes, "
            "so no dimension of them is known to be that of the samples.",
            list_first(f"{name}: {shape}" for name, shape in inputs.items()) or "none",
        )
    return Program(exported, inputs, output_names)


def write_program(program: Program, file: BinaryIO, description: str) -> None:
    """Writes a program for ``torch.export.load``.

    Args:
        program: The program.
        file: An open file.
        description: What the file says of its run, in JSON: its extra file ``torchbase.json``.
    """
    torch.export.save(program.exported, file, extra_files={"torchbase.json": description})


def write_onnx(program: Program, file: BinaryIO, description: str) -> None:
    """Writes a program as ONNX.

    Args:
        program: The program.
        file: An open file.
        description: What the file says of its run, in JSON: the entry ``torchbase`` of its metadata.

    Raises:
        StepError: If the network has an operation that can't be expressed in ONNX.
        RunDirectoryError: If the network is too large for one file.
    """
    errors = load("torch", "torch.onnx.errors")
    try:
        converted = torch.onnx.export(
            program.exported, dynamo=True, verbose=False, output_names=program.output_names or None
        )
    except errors.OnnxExporterError as error:
        raise StepError(
            f"The network can't be expressed in ONNX: {error}\nTo fix, replace the operation that is named, or export "
            "to a file that ends with .pt2."
        ) from error
    if converted is None:
        raise StepError("torch.onnx.export returned no program. To fix, export to a file that ends with .pt2.")
    converted.model.metadata_props["torchbase"] = description
    try:
        content = converted.model_proto.SerializeToString()
    except Exception as error:  # of protobuf, whose kind depends on its version
        raise RunDirectoryError(
            f"The network can't be written as one ONNX file, which holds at most 2 GiB: {error}. To fix, export to a "
            "file that ends with .pt2."
        ) from error
    file.write(content)


def _check_outputs(network: torch.nn.Module, program: torch.nn.Module, calls: Sequence[Call]) -> list[str]:
    """Returns the names of the outputs; none if one isn't a tensor."""
    for call in calls:
        expected, found = _outputs_of(network, call), _outputs_of(program, call)
        try:
            torch.testing.assert_close(list(found.values()), list(expected.values()), equal_nan=True)
        except AssertionError as error:
            raise StepError(
                f"The program of {type(network).__name__} computes something else than the network, so nothing is "
                f"written: {error}\nTo fix, look in its forward for what depends on values and not on shapes, such as "
                "an `if` on a number that was read from a tensor, and for attributes that it changes."
            ) from error
    return list(found) if all(isinstance(one, torch.Tensor) for one in found.values()) else []


def _outputs_of(module: torch.nn.Module, call: Call) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    with torch.no_grad(), isolate_rng(_CPU):
        torch.manual_seed(0)  # for a network that draws random numbers
        returned = module(*call.args, **call.kwargs)
    map_leaves(returned, lambda path, value: outputs.update({"_".join(map(str, path)) or "output": value}))
    return outputs


def _inputs_of(exported: torch.export.ExportedProgram) -> dict[str, str]:
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"}
    return {
        name: _describe(values[name])
        for name in exported.graph_signature.user_inputs
        if isinstance(name, str) and isinstance(values.get(name), torch.Tensor)
    }


def _describe(tensor: torch.Tensor) -> str:
    lengths = [str(length) if isinstance(length, int) else ANY for length in tensor.shape]
    return f"{str(tensor.dtype).removeprefix('torch.')} ({', '.join(lengths)})"
