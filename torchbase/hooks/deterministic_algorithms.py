"""Lets torch use deterministic algorithms only, while a run lasts."""

import os

import torch

from torchbase.engine.hookspecs import hookimpl

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


class DeterministicAlgorithms:
    """Switches ``torch.use_deterministic_algorithms`` on for the run, and back afterwards.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """

    def __init__(self) -> None:
        self._was_on = False

    @hookimpl
    def on_run_start(self) -> None:
        """Switches it on; cuBLAS needs a workspace of fixed size for it."""
        self._was_on = torch.are_deterministic_algorithms_enabled()
        os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True)

    @hookimpl
    def on_run_end(self) -> None:
        """Switches it back."""
        torch.use_deterministic_algorithms(self._was_on)

    @hookimpl
    def on_exception(self) -> None:
        """Switches it back."""
        torch.use_deterministic_algorithms(self._was_on)
