"""Makes PyTorch use only deterministic algorithms during a run."""

import os

import torch

from torchbase.engine.hookspecs import hookimpl

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


class DeterministicAlgorithms:
    """Enables ``torch.use_deterministic_algorithms`` during the run.

    The former setting is restored after the run.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """

    def __init__(self) -> None:
        self._was_enabled = False

    @hookimpl
    def on_run_start(self) -> None:
        """Enables deterministic algorithms, and the workspace of fixed size that cuBLAS needs for them."""
        self._was_enabled = torch.are_deterministic_algorithms_enabled()
        os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True)

    @hookimpl
    def on_run_end(self) -> None:
        """Restores the former setting."""
        torch.use_deterministic_algorithms(self._was_enabled)

    @hookimpl
    def on_exception(self) -> None:
        """Restores the former setting."""
        torch.use_deterministic_algorithms(self._was_enabled)
