"""How errors in logging backends are handled: training continues, or ends with the error."""

import logging
from typing import Literal

LoggingErrorPolicy = Literal["raise", "warn"]

logger = logging.getLogger("torchbase")


class LoggingErrors:
    """The policy of a run, and the backends that it has warned about.

    Attributes:
        policy: With ``"raise"`` an error ends training, with ``"warn"`` training continues.
    """

    def __init__(self, policy: LoggingErrorPolicy) -> None:
        """Sets the policy.

        Args:
            policy: See the attribute.
        """
        self.policy: LoggingErrorPolicy = policy
        self._warned: set[str] = set()

    def forget(self) -> None:
        """Clears the list of backends at the start of a run, so each can be warned about again."""
        self._warned.clear()

    def warn_once(self, backend: str, problem: str, error: Exception) -> None:
        """Warns about the first error of a backend. If a server is down, every record would raise one.

        Args:
            backend: The name under which the backend is registered.
            problem: What it can't do, such as ``"csv_log can't write scalars.csv"``.
            error: The exception.
        """
        if backend not in self._warned:
            self._warned.add(backend)
            logger.warning(
                "%s, so some values will be missing there; training continues: %s: %s (This warning is shown once. "
                "To see where the error was raised, set on_logging_error to 'raise'.)",
                problem,
                type(error).__name__,
                error,
            )
