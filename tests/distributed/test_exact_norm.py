import pytest
import several
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import get_total_norm

from torchbase.distributed.exact_norm import exact_norm
from torchbase.distributed.joining import join
from torchbase.distributed.processes import ALONE

SHAPES = [(), (1,), (7,), (5, 3), (8, 2, 3), (1, 9), (0, 4), (3, 0)]


def tensors(dtype=torch.float32):
    generator = torch.Generator("cpu").manual_seed(2)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=4), st.integers(0, 5))
def test_it_is_the_norm_of_torch_to_rounding(shapes, seed):
    generator = torch.Generator("cpu").manual_seed(seed)
    found = [torch.randn(shape, generator=generator) for shape in shapes]
    before = [one.clone() for one in found]
    torch.testing.assert_close(exact_norm(found, ALONE), get_total_norm(found) if found else torch.zeros(()))
    assert all(torch.equal(one, other) for one, other in zip(found, before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_it_is_computed_in_float32_at_least(dtype):
    norm = exact_norm(tensors(dtype), ALONE)
    assert norm.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(norm, get_total_norm([one.to(norm.dtype) for one in tensors(dtype)]))


def test_complex_and_sparse_gradients_count():
    sparse = torch.sparse_coo_tensor([[0, 0, 2]], [1.0, 2.0, 4.0], (3,), check_invariants=True)
    assert exact_norm([torch.tensor([3 + 4j])], ALONE) == 5
    assert exact_norm([sparse], ALONE) == 5


def norm_of_shards(index):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    processes = join()
    mesh = init_device_mesh("cpu", (processes.count,))
    whole = [one for one in tensors() if one.dim() and one.numel()]
    return exact_norm([*(distribute_tensor(one, mesh, [Shard(0)]) for one in whole), torch.ones(())], processes)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_it_has_the_same_bits_for_shards(count):
    expected = exact_norm([*(one for one in tensors() if one.dim() and one.numel()), torch.ones(())], ALONE)
    for norm in several.values_of(count, norm_of_shards):
        assert torch.equal(norm, expected)
