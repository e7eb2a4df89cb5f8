"""The loop, its events, and the hooks that it calls.

For: running epochs, phases and iterations; registering hooks and calling them in order; the state of a run, which is
passed to every hook; the default training step; the value that a decision depends on; notes on the mini-batch of an
error; the checks of hooks, losses, logged names and optimizers.

In: a `Run` with its phases, and hooks. Out: the same `Run`, trained. Files, logging backends, metrics and seeds are
hooks of packages above; the engine imports none of them.

Begin with `torchbase.engine.hookspecs`, which draws the loop and lists every event. `torchbase.engine.loop` is that
loop. `torchbase.engine.plugins` registers hooks, `torchbase.engine.events` calls them, `torchbase.engine.run` is what
they receive.
"""
