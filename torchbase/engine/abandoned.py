"""The error by which a hook abandons an iteration."""

from torchbase.errors import NonFiniteError


class IterationAbandonedError(NonFiniteError):
    """Leaves an iteration that is not to count, for a wrapper of `run_iteration` to catch.

    Raised for one part of a mini-batch, it is raised for the whole mini-batch, on each process.
    """
