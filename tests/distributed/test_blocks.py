import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbase.distributed.blocks import share_out, take_turns


@pytest.mark.parametrize(
    ("parts", "processes", "sizes"),
    [(8, 1, [8]), (8, 3, [4, 2, 2]), (4, 3, [2, 1, 1]), (8, 5, [2, 2, 2, 1, 1]), (6, 3, [2, 2, 2]), (12, 3, [4, 4, 4])],
)
def test_parts_are_shared_out_as_evenly_as_the_tree_allows(parts, processes, sizes):
    assert [len(block.parts) for block in share_out(parts, processes)] == sizes


@given(st.data())
def test_each_part_belongs_to_one_process_and_each_process_has_one_block_of_the_tree(data):
    parts = data.draw(st.integers(1, 200))
    processes = data.draw(st.integers(1, parts))
    blocks = share_out(parts, processes)
    assert len(blocks) == processes
    assert [part for block in blocks for part in block.parts] == list(range(parts))
    for block in blocks:
        assert block.parts.start % 2**block.level == 0
        is_last = block.parts.stop == parts
        assert len(block.parts) == 2**block.level or (is_last and len(block.parts) < 2**block.level)


@given(st.data())
def test_in_turns_each_round_has_consecutive_parts_in_the_order_of_the_processes(data):
    parts = data.draw(st.integers(1, 200))
    processes = data.draw(st.integers(1, parts))
    turns = take_turns(parts, processes)
    assert len(turns) == processes
    assert [part for index in range(len(turns[0])) for one in turns for part in one[index : index + 1]] == list(
        range(parts)
    )
