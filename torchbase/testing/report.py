"""The results of the checks of a hook as text."""

import textwrap
from dataclasses import dataclass

from torchbase.testing.overhead import Overhead

INDENT = 22
WRAPPER = textwrap.TextWrapper(110 - INDENT, break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: The name of the check.
        passed: Whether the hook passed the check; True if it was skipped.
        text: What was checked; if the check failed, the differences and how to fix them.
        was_skipped: Whether the hook wasn't checked, since it can't be on this machine.
    """

    name: str
    passed: bool
    text: str
    was_skipped: bool = False

    def __str__(self) -> str:
        """Formats the result as a paragraph with a hanging indent."""
        word = "FAILED" if not self.passed else "skipped" if self.was_skipped else "ok"
        return _paragraph(f"  {word:<7} {self.name:<12}", self.text)


@dataclass(frozen=True)
class HookReport:
    """The results of all checks of a hook; ``print`` shows them.

    Attributes:
        hook: The name of the hook.
        session: The class of the session in which it was tried.
        results: The result of each check.
        overhead: The time that the hook takes; None if it wasn't measured.
    """

    hook: str
    session: str
    results: tuple[CheckResult, ...]
    overhead: Overhead | None = None

    @property
    def is_good(self) -> bool:
        """Whether no check failed."""
        return all(result.passed for result in self.results)

    def __str__(self) -> str:
        """Formats the report, with a paragraph per check."""
        failed = sum(not result.passed for result in self.results)
        skipped = sum(result.was_skipped for result in self.results)
        passed = len(self.results) - skipped
        total = f"{failed} of {passed} checks failed" if failed else f"{passed} checks passed"
        total += f", {skipped} skipped" if skipped else ""
        cost = [] if self.overhead is None else [_paragraph(f"  cost    {'':<12}", str(self.overhead))]
        return "\n".join([f"The hook '{self.hook}' in {self.session}: {total}", *map(str, self.results), *cost])


def _paragraph(header: str, text: str) -> str:
    lines = [wrapped for line in text.splitlines() for wrapped in WRAPPER.wrap(line)]
    return header + ("\n" + " " * INDENT).join(lines)
