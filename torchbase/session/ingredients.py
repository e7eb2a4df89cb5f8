"""The checks of what ``init_ingredients`` returns, and of methods that need what they build themselves."""

import inspect
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from typing import Any

from torchbase.errors import StepError, describe_returned

INGREDIENTS = "init_ingredients"


def check_ingredients(ingredients: object) -> Any:
    """Checks the return value of ``init_ingredients``.

    Args:
        ingredients: The return value.

    Returns:
        The return value.

    Raises:
        StepError: If it is None, a class, or something that can be read only once.
    """
    if inspect.isclass(ingredients):
        found = f"the class {ingredients.__name__}, not an instance"
    elif ingredients is None:
        found = describe_returned(ingredients)
    elif isinstance(ingredients, Iterator | AsyncGenerator | Coroutine):
        found = f"{describe_returned(ingredients)}, which can be read only once"
    else:
        return ingredients
    raise StepError(
        f"init_ingredients has to return what several methods need, and returned {found}. To fix, return an object, or "
        'several in a dictionary: {"tokenizer": tokenizer, "vocabulary": vocabulary}.'
    )


def without_ingredients(session_class: type) -> StepError:
    """Returns the error of a session that uses ingredients, and has none.

    Args:
        session_class: The class of the session.
    """
    return StepError(
        f"self.ingredients is what init_ingredients returns, and {session_class.__name__} has no such method. To fix, "
        "write init_ingredients(self), and return what several methods need."
    )


def check_is_not_within(method: str, running: Sequence[str]) -> None:
    """Refuses a method that needs what it builds itself, directly or by the methods that it leads to.

    Args:
        method: The method that is to be called.
        running: The methods that are running, from the outermost to the innermost.

    Raises:
        StepError: If it is running already.
    """
    needed = method if method in running else INGREDIENTS  # which come before all others
    if needed in running:
        chain = [*running[running.index(needed) :], *dict.fromkeys((method, needed))]
        raise StepError(
            f"{needed} can't use what it builds itself: {' → '.join(chain)}. To fix, pass it on by a variable in "
            f"{' and '.join(dict.fromkeys(chain))}, not by the attributes of the session."
        )
