"""The rows of real sharded tensors, in forked processes."""

import pytest
import several
import torch

from torchbase.distributed.joining import join
from torchbase.errors import ProcessError
from torchbase.files.bitwise import different_values
from torchbase.testing.forked import reason_against_forking

several.import_sharding()
pytestmark = pytest.mark.skipif(reason_against_forking() is not None, reason=str(reason_against_forking()))

SHAPES = [(7, 3), (1, 2), (0, 4), (2,), (5, 2, 3), (8, 1), (3, 0)]
DTYPES = [torch.float32, torch.bfloat16, torch.complex64, torch.int64, torch.bool]


def tensor_of(shape, dtype):
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)


def pieces_in(index):
    """What `local_part` returns of tensors that torch shards, and what `distributed_like` makes of their rows."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    from torchbase.distributed.pieces import distributed_like, local_part

    mesh = init_device_mesh("cpu", (join().count,))
    found = []
    for shape in SHAPES:
        for dtype in DTYPES:
            tensor = tensor_of(shape, dtype)
            sharded = distribute_tensor(tensor, mesh, [Shard(0)])
            rows, first = local_part(sharded)
            again = distributed_like(sharded, lambda start, end, tensor=tensor: tensor[start:end], shape)
            whole = again.full_tensor()
            found.append((shape, dtype, rows.clone(), first, again.stride() == sharded.stride(), whole))
    replicated = distribute_tensor(torch.arange(4), mesh, [Replicate()])
    kept = local_part(replicated), distributed_like(replicated, lambda start, end: torch.arange(4)[start:end], (4,))
    assert kept[0][1] is None
    assert kept[0][0].tolist() == kept[1].full_tensor().tolist() == [0, 1, 2, 3]
    with pytest.raises(ProcessError, match=r"shape \(2, 6\) is sharded as \(Shard\(dim=1\),\), .* To fix, shard it so"):
        local_part(distribute_tensor(torch.zeros(2, 6), mesh, [Shard(1)]))
    return found


@pytest.mark.parametrize("count", [2, 3])
def test_rows_are_those_that_torch_deals_out_and_make_up_the_same_tensor(count):
    of_processes = several.values_of(count, pieces_in)
    for pieces in zip(*of_processes, strict=True):
        shape, dtype = pieces[0][:2]
        tensor = tensor_of(shape, dtype)
        firsts = [first for _, _, _, first, *_ in pieces]
        rows = [one for _, _, one, *_ in pieces]
        assert firsts == [sum(map(len, rows[:index])) for index in range(count)]
        assert different_values(torch.cat(rows), tensor) == []
        for *_, has_stride, whole in pieces:
            assert has_stride
            assert different_values(whole, tensor) == []


def test_a_tensor_that_is_not_distributed_is_whole():
    from torchbase.distributed.pieces import distributed_like, local_part

    tensor = torch.arange(3)
    assert local_part(tensor) == (tensor, None)
    with pytest.raises(ProcessError, match="isn't distributed"):
        distributed_like(tensor, lambda start, end: tensor[start:end], (3,))
