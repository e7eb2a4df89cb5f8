"""All randomness of a run, from one seed.

For: each purpose (building the network, the order of an epoch, the augmentation of a mini-batch) has its own seed,
derived by name, so it doesn't depend on how much other code draws. The global streams (``random``, numpy's legacy
generator, torch's default generator and the accelerator of the run) are seeded, captured and restored. They are those
of the process, so threads that train take turns.

In: a seed and the names of purposes. Out: seeds, and streams in a known state. Nothing here knows of runs or hooks.

Begin with `torchbase.randomness.run_randomness`, then `torchbase.randomness.streams`.
"""
