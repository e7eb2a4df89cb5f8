import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.distributed.tree_sum import TreeSum
from torchbase.sharding.collectives import add_rows


@settings(max_examples=50)
@given(st.data())
def test_rows_are_added_in_the_order_of_the_tree_without_those_that_do_not_count(data):
    count = data.draw(st.integers(1, 9))
    has_part = data.draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
    rows = torch.randn(count, 7, generator=torch.Generator("cpu").manual_seed(count))
    rows[:, 0] = -0.0
    total = TreeSum()
    for row, counts in zip(rows.clone(), has_part, strict=True):
        total.add([row] if counts else [])
    (expected,) = total.total()
    output = torch.empty(7)
    add_rows(rows, has_part, output)
    assert torch.equal(output.view(torch.uint8), expected.view(torch.uint8))
