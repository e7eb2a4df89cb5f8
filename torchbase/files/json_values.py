"""Values in JSON form: finding the parts that JSON can't hold, converting a value, and comparing two values."""

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
"""In a ``Difference``, the value of a key that one side doesn't have. None is the value null."""


@dataclass(frozen=True)
class Difference:
    """A place where two values differ. As text, it reads ``session.num_epochs: 10 -> 20``.

    Attributes:
        path: The path of the place, such as ``session.num_epochs``.
        old: The value on the old side, or ``NOT_GIVEN``.
        new: The value on the new side, or ``NOT_GIVEN``.
    """

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.old!r} -> {self.new!r}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Compares two dictionaries in JSON form, such as the configs of a run and of the session that resumes it.

    Dicts are compared key by key, lists of equal length item by item. Lists of different length are one difference.
    True differs from 1, but 1 equals 1.0.

    Args:
        old: The earlier dictionary, in JSON form.
        new: The later dictionary, in JSON form.

    Returns:
        The differences in the order of their paths.
    """
    return sorted(_differences_at("", old, new), key=lambda difference: difference.path)


def child_path(path: str, key: object) -> str:
    """Returns the path of a key's value.

    Args:
        path: The path of the dict, such as ``data.transform``; empty for the outermost dict.
        key: The key in the dict. A key that would be ambiguous after a dot is written in brackets.

    Returns:
        The path, such as ``data.transform`` or ``data['a.b']``.
    """
    if not isinstance(key, str) or not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{_short(key)}]"
    return f"{path}.{key}" if path else key


def described(value: object) -> str:
    """Formats a value and its type on one short line, for errors.

    Args:
        value: Any value. A long representation is shortened.

    Returns:
        The value and its type, such as ``-0.1 (float)`` or ``tensor(1.) (torch.Tensor)``.
    """
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{_short(value)} ({module}{kind.__qualname__})"


def json_errors(value: object, path: str) -> dict[str, str]:
    """Finds the parts of a value that JSON can't hold, or that a JSON file would return as another type.

    Types are compared exactly: a NumPy float or an enumeration member would be written as a plain number or text and
    lose its type. A tuple is allowed, although it is read back as a list.

    Args:
        value: The value to search: dicts, lists and tuples to any depth.
        path: The path of the value itself, such as ``data``, a prefix of the returned paths.

    Returns:
        What is wrong, by path; empty if JSON can hold the value.
    """
    return dict(_find(value, path, ancestors=()))


def json_form(value: Any) -> Any:
    """Copies a value in the form in which a JSON file returns it, with lists in place of tuples.

    Args:
        value: A value in which `json_errors` finds no error.

    Returns:
        A copy that shares no dict and no list with the value.
    """
    if isinstance(value, dict):
        return {key: json_form(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_form(item) for item in value]
    return value


def finite_or_text(value: object) -> object:
    """Converts a float that isn't finite to text, which JSON can hold.

    Args:
        value: Any value.

    Returns:
        ``"nan"``, ``"inf"`` or ``"-inf"`` for a float that isn't finite; ``float`` converts it back. Any other value is
        returned unchanged.
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
        return [(path, "expected a value of finite depth, got one that contains itself")]
    inner = (*ancestors, id(value))
    if type(value) is dict:
        return [found for key, item in value.items() for found in _find_in_entry(key, item, path, inner)]
    if type(value) is list or type(value) is tuple:
        return [found for index, item in enumerate(value) for found in _find(item, f"{path}[{index}]", inner)]
    error = _scalar_error(value)
    return [(path, error)] if error else []


def _find_in_entry(key: object, item: object, path: str, ancestors: tuple[int, ...]) -> list[tuple[str, str]]:
    entry = child_path(path, key)
    if type(key) is not str:
        return [(entry, f"expected a key that is a str, got {described(key)}")]
    error = _text_error(key)
    return [(entry, error)] if error else _find(item, entry, ancestors)


def _scalar_error(value: object) -> str | None:
    if type(value) is str:
        return _text_error(value)
    if type(value) is float:
        return None if math.isfinite(value) else f"expected a finite number, got {described(value)}"
    if value is None or type(value) is int or type(value) is bool:
        return None
    return f"{_EXPECTED}, got {described(value)}{_hint(value)}"


def _text_error(text: str) -> str | None:
    # A lone surrogate, as in an undecodable file name, can't be written as UTF-8.
    if any("\ud800" <= character <= "\udfff" for character in text):
        return f"expected text that UTF-8 can encode, got {described(text)}"
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
