"""From Arrow to mini-batches, in an order that any position can be sought in.

For: reading columns of a dataset straight from Arrow; the order of an epoch as a function of seed, phase, epoch and
position; loaders for datasets and for streams; splitting data; checking dictionaries of data; the validation
datasets of a session.

In: ``datasets.Dataset`` or ``datasets.IterableDataset``, sizes, a seed. Out: mini-batches of tensors, the same for
any number of workers and after any resume. Nothing here knows of networks.

Begin with `torchbase.data.phase_loader`, which chooses a loader; then read `torchbase.data.order` and
`torchbase.data.columns`.
"""
