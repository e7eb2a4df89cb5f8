"""What makes several computations give the bits of one: gradients are added in a fixed order.

For: the parts of a mini-batch. Each part has gradients of its own. The order in which they are added depends on the
numbers of the parts alone.

In: the gradients of parts, one part after the other. Out: their sum. Nothing here knows of runs or hooks.

Begin with `torchbase.distributed.tree_sum`.
"""
