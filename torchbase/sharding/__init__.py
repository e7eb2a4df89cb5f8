"""A network that is sharded over the processes of a training, since it is too large for each of them.

For: ``session.distributed = "shard"``. Each process has some rows of each parameter, its gradient and its state in the
optimizer. FSDP2 of torch gathers the parameters of one unit of the network at a time, computes with them, and frees
them. The order in which gradients are added is that of `torchbase.distributed`, so the bits are those of one process.

In: a network as the user builds it, and the parts of mini-batches. Out: the network with shards as its parameters, and
their gradients. A run that isn't sharded, or has one process, doesn't import this package.

Begin with `torchbase.sharding.network`, then `torchbase.sharding.collectives`.
"""
