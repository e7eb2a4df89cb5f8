"""What becomes of an error in a logging backend: the training goes on, or it ends with the error."""

import logging
from typing import Literal

LoggingErrorPolicy = Literal["raise", "warn"]

logger = logging.getLogger("torchbase")


class LoggingErrors:
    """The policy of a run, and which backends it has told of already.

    Attributes:
        policy: ``"raise"`` lets an error end the training, ``"warn"`` lets the training go on.
    """

    def __init__(self, policy: LoggingErrorPolicy) -> None:
        """Sets the policy.

        Args:
            policy: See the attribute.
        """
        self.policy: LoggingErrorPolicy = policy
        self._told: set[str] = set()

    def forget(self) -> None:
        """Lets each backend be told of once more: another run begins."""
        self._told.clear()

    def warn_once(self, backend: str, problem: str, error: Exception) -> None:
        """Tells of the first error of a backend; of a dead server every record would bring one.

        Args:
            backend: The name under which the backend is registered.
            problem: What it can't do, e.g. ``"csv_log can't write scalars.csv"``.
            error: What was raised.
        """
        if backend not in self._told:
            self._told.add(backend)
            logger.warning(
                "%s, so some values will be missing there; training goes on: %s: %s (This is said once. To see "
                "where it was raised, set on_logging_error to 'raise'.)",
                problem,
                type(error).__name__,
                error,
            )
