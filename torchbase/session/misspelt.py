"""Finds methods of a session that look like a misspelt override: the default would be used without a word."""

import inspect
import logging
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType

from torchbase.errors import nearest_name

SIMILARITY = 0.85
_logger = logging.getLogger("torchbase")


def warn_of_misspelt_methods(kind: type, base: type, overridable: Collection[str]) -> None:
    """Warns of each method, such as ``init_optimiser``, whose name is nearly that of a method to override.

    A method that another one of the class names, as its helper, is meant as it is.

    Args:
        kind: The class of the session.
        base: The class that the user's classes derive from.
        overridable: The names of the methods to override.
    """
    functions = [
        (name, one)
        for origin in kind.__mro__
        if not issubclass(base, origin)
        for name, one in vars(origin).items()
        if isinstance(one, FunctionType)
    ]
    used = {name for _, one in functions for name in _names_in(inspect.unwrap(one).__code__)}
    for name in dict.fromkeys(name for name, _ in functions if name not in used and not hasattr(base, name)):
        nearest = nearest_name(name, overridable, SIMILARITY)
        if nearest is not None:
            _logger.warning(
                "%s defines '%s', which is not called. Did you mean '%s'? To fix, rename it.",
                kind.__name__,
                name,
                nearest,
            )


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names_in(constant)
