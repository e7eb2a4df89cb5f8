"""Every tensor that torchbase makes names its device, since a program can set a default device that isn't the CPU."""

import ast
from pathlib import Path

import pytest

# Functions of torch that make a tensor on the default device. Those that take a tensor use its device.
MAKES_A_TENSOR = {
    *("arange", "as_tensor", "asarray", "empty", "empty_permuted", "empty_strided", "eye", "full", "linspace"),
    *("logspace", "nested_tensor", "normal", "ones", "rand", "randint", "randn", "randperm", "range", "scalar_tensor"),
    *("sparse_coo_tensor", "sparse_csr_tensor", "tensor", "tril_indices", "triu_indices", "zeros"),
}
FILES = sorted(Path("torchbase").rglob("*.py"))


def calls_without_a_device(source):
    """The names and lines of the calls that would make a tensor on the default device."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called = ast.unparse(node.func)
        named = {keyword.arg for keyword in node.keywords}
        if called.startswith("torch.") and node.func.attr in MAKES_A_TENSOR and not named & {"device", None}:
            yield f"{called} in line {node.lineno}"
        if called == "torch.Generator" and not node.args and "device" not in named:
            yield f"{called} in line {node.lineno}"
        if node.func.attr == "with_format" and [ast.unparse(one) for one in node.args] == ["'torch'"] and not named:
            yield f"{called} in line {node.lineno}"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_tensor_that_is_made_names_its_device(file):
    assert list(calls_without_a_device(file.read_text())) == []


@pytest.mark.parametrize("call", ["torch.zeros(3)", "torch.Generator()", 'data.with_format("torch")'])
def test_a_call_without_a_device_is_found(call):
    assert len(list(calls_without_a_device(f"x = {call}"))) == 1
