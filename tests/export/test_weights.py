import io

import pytest
import torch
from safetensors.torch import load

from torchbase.errors import RunDirectoryError
from torchbase.export.weights import write_weights
from torchbase.files.bitwise import different_values

MEMORY = torch.arange(12.0).reshape(3, 4)


def written(state):
    file = io.BytesIO()
    write_weights(state, file, "{}")
    return load(file.getvalue())


@pytest.mark.parametrize(
    "state",
    [
        {"a": MEMORY, "b": MEMORY},  # tied
        {"a": MEMORY[0], "b": MEMORY[1], "c": MEMORY},  # parts of the same memory
        {"a": MEMORY.t(), "b": MEMORY[:, 1]},  # not contiguous
        {"a": torch.zeros(0, 3), "b": torch.tensor(5), "c": torch.zeros(0, 3)},
        {"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.ones(2, dtype=torch.float8_e4m3fn).view(torch.uint8)},
        {},
    ],
)
def test_every_tensor_is_written_under_its_name(state):
    assert different_values(written(state), {name: one.contiguous() for name, one in state.items()}) == []


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (MEMORY.to_sparse(), r"layer \(torch\.sparse_coo\)"),
        ({"step": 1}, r"layer \(dict\)"),
        (torch.ones(2, dtype=torch.complex128), "can't hold the network"),
    ],
)
def test_what_the_format_cannot_hold_is_an_error(value, named):
    with pytest.raises(RunDirectoryError, match=named):
        written({"weight": MEMORY, "layer": value})
