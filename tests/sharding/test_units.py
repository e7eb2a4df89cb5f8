import pytest
import torch
from torch.nn import Embedding, LayerNorm, Linear, Module, ModuleDict, ModuleList, Sequential, Tanh

from torchbase.sharding.units import repeated_blocks


class Block(Module):
    def __init__(self, width=16):
        super().__init__()
        self.norm, self.up, self.down = LayerNorm(width), Linear(width, width), Linear(width, width)


class Transformer(Module):
    def __init__(self, blocks):
        super().__init__()
        self.embed, self.blocks, self.norm, self.head = Embedding(20, 16), blocks, LayerNorm(16), Linear(16, 20)


class Wrapped(Module):
    def __init__(self, network):
        super().__init__()
        self.model = network


def names_of(network):
    names = {module: name for name, module in network.named_modules()}
    return [names[one] for one in repeated_blocks(network)]


@pytest.mark.parametrize(
    "blocks",
    [
        ModuleList([Block(), Block(), Block()]),
        Sequential(Block(), Block(), Block()),
        ModuleDict({"0": Block(), "1": Block(), "2": Block()}),
    ],
)
def test_the_layers_of_a_transformer_are_units_whatever_holds_them(blocks):
    assert names_of(Transformer(blocks)) == ["blocks.0", "blocks.1", "blocks.2"]
    assert names_of(Wrapped(Transformer(blocks))) == ["model.blocks.0", "model.blocks.1", "model.blocks.2"]


def test_blocks_within_blocks_are_none():
    stages = ModuleList(Sequential(Block(), Block()) for _ in range(2))
    assert names_of(Transformer(stages)) == ["blocks.0", "blocks.1"]


def test_each_branch_is_cut_at_its_outermost_level():
    network = Wrapped(ModuleDict({"encoder": Transformer(ModuleList([Block(), Block()])), "head": Linear(16, 2)}))
    assert names_of(network) == ["model.encoder.blocks.0", "model.encoder.blocks.1"]


def test_the_layers_of_a_plain_network_are_units():
    assert names_of(Sequential(Linear(3, 8), Tanh(), Linear(8, 8), Tanh(), Linear(8, 1))) == ["0", "2", "4"]


def test_small_siblings_without_parameters_or_alone_are_no_units():
    network = Sequential(Linear(100, 100), LayerNorm(10), LayerNorm(10), Tanh(), Tanh())
    assert names_of(network) == []


def test_a_block_that_is_in_two_places_or_shares_a_parameter_with_the_rest_is_no_unit():
    shared = Block()
    assert names_of(Transformer(ModuleList([shared, Block(), shared, Block()]))) == ["blocks.1", "blocks.3"]
    tied = Transformer(ModuleList([Block(), Block(), Block()]))
    tied.outside = tied.blocks[1].up.weight
    assert names_of(tied) == ["blocks.0", "blocks.2"]


def test_lists_of_parameters_are_no_blocks():
    network = Module()
    network.first = torch.nn.ParameterList([torch.ones(4)])
    network.second = torch.nn.ParameterList([torch.ones(4)])
    assert names_of(network) == []
