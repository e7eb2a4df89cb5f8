"""The state of a run: gathered, written, checked and restored.

For: what a run needs to continue exactly (network, optimizer, counters, hooks, random states), as one folder per
checkpoint with a manifest that has a checksum of every file.

In: a `Run` between two iterations. Out: folders ``checkpoint-epoch-…-iteration-…``, and a `Run` restored from the
newest whole one. When a checkpoint is written is decided by `torchbase.hooks.checkpoint`.

Begin with `torchbase.checkpoints.run_state`, which gathers and restores; `torchbase.checkpoints.storage` is the
format on disk, `torchbase.checkpoints.verification` checks a run directory.
"""
