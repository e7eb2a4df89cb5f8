"""Values that a JSON file holds: where in one lies what JSON can't hold, its JSON form, and how two of them differ."""

import math
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

_PLAIN_KEY = re.compile(r"[\w-]+")
_EXPECTED = "expected a value that JSON can hold (dict, list, tuple, str, int, float, bool or None)"


class _NotGiven(Enum):
    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return self.value


NOT_GIVEN: Final = _NotGiven.NOT_GIVEN
"""Stands in a ``Difference`` for the value of a key that one side doesn't have; None is the value null."""


@dataclass(frozen=True)
class Difference:
    """One place where two values differ; as text it reads ``session.num_epochs: 10 -> 20``.

    Attributes:
        path: Where, such as ``session.num_epochs``.
        old: The value on the old side, or ``NOT_GIVEN``.
        new: The value on the new side, or ``NOT_GIVEN``.
    """

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.old!r} -> {self.new!r}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Compare two dictionaries in JSON form, such as the configs of a run and of its continuation.

    Dicts are compared key by key and lists of one length item by item; a list that changed its length is one
    difference. True is not 1, while 1 is 1.0.

    Args:
        old: The earlier dictionary, in JSON form.
        new: The later dictionary, in JSON form.

    Returns:
        The differences in the order of their paths; empty if there are none.
    """
    return sorted(_differences_at("", old, new), key=lambda difference: difference.path)


def child_path(path: str, key: object) -> str:
    """Name the place of a key inside the value at a path.

    Args:
        path: Path of the value that has the key, such as ``data.transform``; empty at the top.
        key: The key in a dict. A key that would be ambiguous after a dot is written in brackets.

    Returns:
        The path of the key's value, such as ``data.transform`` or ``data['a.b']``.
    """
    if not isinstance(key, str) or not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{_short(key)}]"
    return f"{path}.{key}" if path else key


def described(value: object) -> str:
    """Show a value with its type on one short line, as errors do.

    Args:
        value: Whatever came. A long representation is shortened.

    Returns:
        The value and its type, such as ``-0.1 (float)`` or ``tensor(1.) (torch.Tensor)``.
    """
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{_short(value)} ({module}{kind.__qualname__})"


def json_errors(value: object, path: str) -> dict[str, str]:
    """Find everything inside a value that JSON can't hold, or would give back as something else.

    Types are compared exactly: a numpy float or an enumeration member would be written as a plain
    number or text and read back without its type. A tuple is allowed, though it comes back as a list.

    Args:
        value: The value to look through: dicts, lists and tuples to any depth.
        path: Path of the value itself, such as ``data``; the paths found start with it.

    Returns:
        For the path of each mistake, what is wrong there; empty when JSON holds the value.
    """
    return dict(_find(value, path, ancestors=()))


def json_form(value: Any) -> Any:
    """Copy a value the way that it comes back from a JSON file, with lists in place of tuples.

    Args:
        value: A value in which ``json_errors`` finds nothing.

    Returns:
        A copy that shares no dict and no list with the value.
    """
    if isinstance(value, dict):
        return {key: json_form(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_form(item) for item in value]
    return value


def finite_or_text(value: object) -> object:
    """Gives a number in the form in which JSON can hold it.

    Args:
        value: Any value.

    Returns:
        ``"nan"``, ``"inf"`` or ``"-inf"`` for a float that is no finite number, which ``float`` reads back; all else as
        it is.
    """
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _differences_at(path: str, old: object, new: object) -> Iterator[Difference]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in old.keys() | new.keys():
            yield from _differences_at(child_path(path, key), old.get(key, NOT_GIVEN), new.get(key, NOT_GIVEN))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (old_item, new_item) in enumerate(zip(old, new, strict=True)):
            yield from _differences_at(f"{path}[{index}]", old_item, new_item)
    elif isinstance(old, bool) is not isinstance(new, bool) or old != new:
        yield Difference(path, old, new)


def _find(value: object, path: str, ancestors: tuple[int, ...]) -> list[tuple[str, str]]:
    if id(value) in ancestors:
        return [(path, "expected a value that ends, got one that contains itself")]
    inner = (*ancestors, id(value))
    if type(value) is dict:
        return [found for key, item in value.items() for found in _find_in_entry(key, item, path, inner)]
    if type(value) is list or type(value) is tuple:
        return [found for index, item in enumerate(value) for found in _find(item, f"{path}[{index}]", inner)]
    wrong = _scalar_error(value)
    return [(path, wrong)] if wrong else []


def _find_in_entry(key: object, item: object, path: str, ancestors: tuple[int, ...]) -> list[tuple[str, str]]:
    entry = child_path(path, key)
    if type(key) is not str:
        return [(entry, f"expected a key that is a str, got {described(key)}")]
    wrong = _text_error(key)
    return [(entry, wrong)] if wrong else _find(item, entry, ancestors)


def _scalar_error(value: object) -> str | None:
    if type(value) is str:
        return _text_error(value)
    if type(value) is float:
        return None if math.isfinite(value) else f"expected a finite number, got {described(value)}"
    if value is None or type(value) is int or type(value) is bool:
        return None
    return f"{_EXPECTED}, got {described(value)}{_hint(value)}"


def _text_error(text: str) -> str | None:
    # Half a surrogate pair, as in an undecodable file name, can't be written as UTF-8.
    if any("\ud800" <= character <= "\udfff" for character in text):
        return f"expected text that UTF-8 can hold, got {described(text)}"
    return None


def _hint(value: object) -> str:
    if hasattr(value, "tolist"):
        return "; pass its .tolist()"
    if isinstance(value, set | frozenset):
        return "; pass a list"
    return "; pass its name" if callable(value) else ""


def _short(value: object) -> str:
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = 60
    return " ".join(shortener.repr(value).split())
