"""The preset: `TrainingBaseSession` builds a run from the user's methods and registers the standard hooks.

For: the methods that a user writes; building and checking data, network, optimizer and metrics; starting,
resuming, evaluating and closing a run; importing the class of an earlier run.

In: a config dictionary and the user's subclass. Out: a trained network in a run directory, and a `RunSummary`.

Begin with `torchbase.session.base`: ``default_hooks()`` lists the rest of the program on one screen. Then read
`torchbase.session.user_methods` and `torchbase.session.parts`.
"""
