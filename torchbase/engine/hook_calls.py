"""What fires events: the functions of an engine by the names of the events."""

from collections.abc import Callable
from typing import Any, Protocol

from torchbase.errors import HookError


class HookCalls(Protocol):
    """The events by name; calling one fires it: ``run.call.log_scalars(run=run, scalars={...}, step=1)``."""

    def __getattr__(self, event: str) -> Callable[..., Any]:
        """Returns a function that calls the hooks of an event."""


class NotRunning:
    """Stands for them until an engine runs the run."""

    def __getattr__(self, event: str) -> Callable[..., Any]:
        """Raises HookError."""
        raise HookError(
            f"The event '{event}' can't fire, since the run has not been passed to an engine yet. "
            "To fix, call engine.run(run)."
        )
