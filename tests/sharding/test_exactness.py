import pytest
import torch

from torchbase.sharding.exactness import ELEMENT_WISE

LENGTHS = (8, 24, 103)


def steps(kind, weights, gradients, rows, **settings):
    parameter = torch.nn.Parameter(weights[rows].clone())
    optimizer = kind([parameter], lr=0.01, **settings)
    for gradient in gradients:
        parameter.grad = gradient[rows].clone()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("kind", ELEMENT_WISE)
def test_an_element_wise_optimizer_has_the_same_bits_on_a_shard_as_on_the_whole(kind, foreach):
    generator = torch.Generator("cpu").manual_seed(1)
    settings = {"momentum": 0.9} if kind in (torch.optim.SGD, torch.optim.RMSprop) else {}
    for length in LENGTHS:
        weights = torch.randn(length, generator=generator)
        gradients = [torch.randn(length, generator=generator) * 10.0 ** (-number % 3) for number in range(12)]
        whole = steps(kind, weights, gradients, slice(None), foreach=foreach, **settings)
        for count in (2, 4, 8):
            size = -(-length // count)
            shards = [slice(first, first + size) for first in range(0, length, size)]
            parts = [steps(kind, weights, gradients, one, foreach=foreach, **settings) for one in shards]
            assert torch.equal(torch.cat(parts), whole)
