"""What the processes of a training send to each other, so that they give the bits of one.

For: the parts of a mini-batch, which processes share out. Gradients are added in an order that depends on the numbers
of the parts alone. Values, decisions and the state of the network are sent to all.

In: values and tensors of one process. Out: those of all processes, or their sums. They go through shared memory on one
machine, and else by `torch.distributed`. `SingleProcess` sends nothing, and `torch.distributed` isn't imported then.
Nothing here knows of runs or hooks.

Begin with `torchbase.distributed.processes`, then `torchbase.distributed.tree_sum`.
"""
