"""Optional hooks that change or inspect the training, one hook per file, and their helpers.

For: schedules, clipping, accumulation, mixed precision, averaged weights, freezing, early stopping, limits,
profiles, logging of weights, gradients and samples. A session registers none of them by default.

In: the events of the engine. Out: a changed iteration, a decision, or a logged value. No technique imports another
technique.

Begin with `torchbase.techniques.gradient_clipping`, the shortest hook that changes a step, then read
`torchbase.techniques.exponential_moving_average`, which has a state and wraps a phase. Users import all of them from
`torchbase.hooks`.
"""
