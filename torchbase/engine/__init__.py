"""The loop, its events, and the hooks that it calls.

For: running epochs of phases of iterations; registering hooks and calling them in order; the state of a run that
every hook receives; the default training step; finding the value that a decision depends on.

In: a `Run` with its phases, and hooks. Out: the same `Run`, trained. Files, logging backends, metrics and seeds are
hooks of rooms above; the engine imports none of them.

Begin with `torchbase.engine.hookspecs`, which lists every event with the loop on top. `torchbase.engine.loop` is
that loop. `torchbase.engine.plugins` registers hooks, `torchbase.engine.events` calls them, `torchbase.engine.run`
is what they receive.
"""
