"""Hooks that change or inspect the training on request, one hook a file, and the helpers that only they use.

For: schedules, clipping, accumulation, mixed precision, averaged weights, freezing, early stopping, limits,
profiles, logging of weights, gradients and samples. A session registers none of them by itself.

In: the events of the engine. Out: a changed iteration, a decision, or something logged. A technique imports no
other.

Begin with `torchbase.techniques.gradient_clipping`, the shortest hook that changes a step, then read
`torchbase.techniques.exponential_moving_average`, which has a state and wraps a phase. All are imported from
`torchbase.hooks`.
"""
