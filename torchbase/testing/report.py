"""What the checks of a hook found, to be read."""

import textwrap
from dataclasses import dataclass

from torchbase.testing.overhead import Overhead

INDENT = 22
WRAPPER = textwrap.TextWrapper(110 - INDENT, break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True)
class CheckResult:
    """What came of one check.

    Attributes:
        name: What was checked, in a word or two.
        passed: Whether the hook keeps what is asked of it.
        text: What was done and seen; where it failed, what differs and how to mend it.
    """

    name: str
    passed: bool
    text: str

    def __str__(self) -> str:
        """A paragraph with a hanging indent."""
        head = f"  {'ok    ' if self.passed else 'FAILED'}  {self.name:<12}"
        return _paragraph(head, self.text)


@dataclass(frozen=True)
class HookReport:
    """What the checks of a hook found; ``print`` shows it.

    Attributes:
        hook: The name of the hook.
        session: The class of the session in which it was tried.
        results: What came of each check.
        overhead: What the hook costs; None where it wasn't measured.
    """

    hook: str
    session: str
    results: tuple[CheckResult, ...]
    overhead: Overhead | None = None

    @property
    def is_good(self) -> bool:
        """Whether all checks passed."""
        return all(one.passed for one in self.results)

    def __str__(self) -> str:
        """The findings, a paragraph each."""
        failed = sum(not one.passed for one in self.results)
        said = f"{failed} of {len(self.results)} checks failed" if failed else f"{len(self.results)} checks passed"
        cost = [] if self.overhead is None else [_paragraph(f"  cost    {'':<12}", str(self.overhead))]
        return "\n".join([f"The hook '{self.hook}' in {self.session}: {said}", *map(str, self.results), *cost])


def _paragraph(head: str, text: str) -> str:
    lines = [line for one in text.splitlines() for line in WRAPPER.wrap(one)]
    return head + ("\n" + " " * INDENT).join(lines)
