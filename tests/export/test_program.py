import json

import pytest
import torch
from exported import TwoInputs, mini_batch_of

from torchbase.errors import StepError
from torchbase.export.example import Call
from torchbase.export.program import make_program, write_onnx
from torchbase.files.bitwise import different_values


def calls_of_sizes(*sizes):
    return [Call((torch.randn(size, 3),), {}) for size in sizes]


class Returning(torch.nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, x):
        return self.compute(x)


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda x: x if x.sum() > 0 else -x, r"Returning can't become a program: torch.export raised"),
        (lambda x: x.reshape(3, 3), r"Returning can't become a program"),
        (lambda x: x + id(object()) * 0 + torch.tensor(next(COUNT)), r"computes something else than the network"),
    ],
    ids=["branches on a value", "fixes the size", "changes with each call"],
)
def test_what_is_no_function_of_its_inputs_is_an_error(compute, message):
    with pytest.raises(StepError, match=message):
        make_program(Returning(compute), calls_of_sizes(3, 2))


COUNT = iter(range(1000))


def test_a_network_that_draws_random_numbers_becomes_a_program():
    program = make_program(Returning(lambda x: (x + torch.randn_like(x), x.sum())), calls_of_sizes(3, 2))
    assert program.output_names == ["0", "1"]
    assert program.inputs == {"x": "float32 (any, 3)"}


class OfManyKinds(torch.nn.Module):
    def forward(self, x, samples, *, mask=None, mode="max", parts=()):
        total = x.sum(dim=1) / samples if mode == "mean" else x
        return {"total": total, "mask": mask, "parts": [2 * part for part in parts]}


def test_arguments_and_outputs_may_be_of_many_kinds():
    def call(samples):
        parts = (torch.randn(samples, 2), torch.randn(4))
        return Call((torch.randn(samples, 3), samples), {"mask": None, "mode": "mean", "parts": parts})

    program = make_program(OfManyKinds(), [call(3), call(2)])
    assert program.inputs == {"x": "float32 (any, 3)", "parts_0": "float32 (any, 2)", "parts_1": "float32 (4)"}
    args, kwargs = call(7)
    found, expected = (one(*args, **kwargs) for one in (program.exported.module(), OfManyKinds()))
    assert different_values(found, expected) == []


def test_a_number_of_inputs_that_differs_is_an_error():
    with pytest.raises(StepError, match="Returning can't become a program"):
        make_program(Returning(list), [Call(([torch.randn(3)] * samples,), {}) for samples in (3, 2)])


def test_mini_batches_of_one_size_give_a_program_for_this_size_and_a_warning(caplog):
    program = make_program(Returning(lambda x: x * 2), calls_of_sizes(3, 3))
    assert program.inputs == {"x": "float32 (3, 3)"}
    assert any("takes inputs of these shapes only: x: float32 (3, 3)" in message for message in caplog.messages)


def test_the_random_streams_stay_as_they_are():
    calls = calls_of_sizes(3, 2)
    before = torch.get_rng_state()
    make_program(Returning(lambda x: x + torch.randn_like(x)), calls)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_computes_the_same_for_mini_batches_of_any_size(tmp_path):
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"needs {name}; run by nox -s extras")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime; run by nox -s extras")
    network = TwoInputs().eval()
    batches = [mini_batch_of(3), mini_batch_of(2), mini_batch_of(2, length=5)]
    program = make_program(network, [Call((tokens,), {"numbers": numbers}) for tokens, numbers in batches])
    path = tmp_path / "network.onnx"
    with path.open("wb") as file:
        write_onnx(program, file, json.dumps({"epoch": 3}))
    session = runtime.InferenceSession(path)
    assert json.loads(session.get_modelmeta().custom_metadata_map["torchbase"]) == {"epoch": 3}
    assert [one.name for one in session.get_inputs()] == ["tokens", "numbers"]
    for samples, length in ((1, 6), (2, 3), (7, 9)):
        tokens, numbers = mini_batch_of(samples, length)
        found = session.run(["hidden", "logits"], {"tokens": tokens.numpy(), "numbers": numbers.numpy()})
        expected = network(tokens, numbers=numbers)
        for one, name in zip(found, ("hidden", "logits"), strict=True):
            torch.testing.assert_close(torch.from_numpy(one), expected[name].detach())
