"""Checkers of dictionaries: that the keys are the expected ones and the values have the expected types."""

import reprlib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

from torchbase.errors import DataError, nearest_name

DataDict = TypeVar("DataDict", bound=Mapping[str, Any])


class TypedDict:
    """A checker of dictionaries that have exactly the given keys, each with a value of its type.

    Values are checked with ``isinstance``, but that a ``bool`` isn't accepted for an ``int``.

    Attributes:
        type_dict: The expected type, or union of types, of each key.

    Example:
        >>> check = TypedDict({"image": torch.Tensor, "label": int | str})
        >>> sample = check({"image": torch.zeros(3), "label": "cat"})
    """

    def __init__(self, type_dict: Mapping[str, type | types.UnionType]) -> None:
        """Keep the expected types.

        Args:
            type_dict: The expected type of each key: a class, or a union of classes as ``int | str``.

        Raises:
            TypeError: It isn't a dictionary, a key isn't a string, or a value is neither a class nor a union of
                classes that ``isinstance`` can check.
        """
        if not isinstance(type_dict, Mapping):
            raise TypeError(f"type_dict has to be a dictionary of types, but a {_type_name(type(type_dict))} came.")
        for key, expected in type_dict.items():
            if not isinstance(key, str):
                raise TypeError(f"The keys of type_dict have to be str, but {_described(key)} came.")
            for member in _members(expected):
                _check_is_checkable(key, member)
        self.type_dict: Mapping[str, type | types.UnionType] = dict(type_dict)

    def check_type(self, key: str, value: Any) -> None:
        """Check one value.

        Args:
            key: The key it is for.
            value: The value to check.

        Raises:
            KeyError: There is no such key in ``type_dict``.
            TypeError: The value doesn't have the type that its key expects.
        """
        members = self._expected_members(key)
        if not _is_instance(value, members):
            raise TypeError(f"data_dict[{key!r}] has to be {_mismatch(value, members)}.")

    def __call__(self, data_dict: DataDict) -> DataDict:
        """Check the keys and all values of a dictionary.

        Args:
            data_dict: The dictionary to check.

        Returns:
            The same object.

        Raises:
            KeyError: Keys are missing or unknown; the message names all of them.
            TypeError: It isn't a dictionary, or a value doesn't have the type that its key expects.
        """
        if not isinstance(data_dict, Mapping):
            raise TypeError(f"data_dict has to be a dictionary, but a {_type_name(type(data_dict))} came.")
        self._check_keys(data_dict)
        for key, value in data_dict.items():
            self.check_type(key, value)
        return data_dict

    def _expected_members(self, key: str) -> tuple[type, ...]:
        if key not in self.type_dict:
            raise KeyError(f"There is no key {key!r}{nearest_name_hint(key, self.type_dict)}.")
        return _members(self.type_dict[key])

    def _check_keys(self, data_dict: Mapping[str, Any]) -> None:
        missing = [repr(key) for key in self.type_dict if key not in data_dict]
        unknown = [repr(key) + nearest_name_hint(key, self.type_dict) for key in data_dict if key not in self.type_dict]
        mistakes = [f"{what}: {', '.join(keys)}" for what, keys in (("missing", missing), ("unknown", unknown)) if keys]
        if mistakes:
            raise KeyError(f"The keys have to be exactly {list(self.type_dict)}; {'; '.join(mistakes)}.")


class TypedDictIterable(TypedDict):
    """A checker of dictionaries of iterables: of equal length, with all items of the type of their key.

    ``check_type`` takes a whole iterable as the value of a key. An iterable has to bear being read again after the
    check, so iterators (as generators) are refused, and so are strings, which are seldom meant as iterables.

    Attributes:
        type_dict: The expected type, or union of types, of the items of each key.

    Example:
        >>> check = TypedDictIterable({"prompt": str, "label": int})
        >>> columns = check({"prompt": ["a", "b"], "label": (0, 1)})
    """

    _data: Mapping[str, Iterable[Any]] | None = None

    @property
    def data(self) -> Mapping[str, Iterable[Any]] | None:
        """The dictionary that last passed the check, or None before there is one. To assign it is to check it."""
        return self._data

    @data.setter
    def data(self, data_dict: Mapping[str, Iterable[Any]]) -> None:
        self(data_dict)

    def check_type(self, key: str, value: Any) -> None:
        """Check all items of one iterable.

        Args:
            key: The key it is for.
            value: The iterable to check.

        Raises:
            KeyError: There is no such key in ``type_dict``.
            TypeError: The value is no iterable, or one that can be read only once, or a string; or an item doesn't
                have the type that its key expects (the message names the index of the first one).
        """
        members = self._expected_members(key)
        where = f"data_dict[{key!r}]"
        check_iterable(value, where)
        if isinstance(value, Iterator):
            raise TypeError(
                f"Checking would use up {where}, a {_type_name(type(value))} that can be read only once. "
                f"Make it a list first: list(...)."
            )
        for index, item in enumerate(value):
            if not _is_instance(item, members):
                raise TypeError(f"Item {index} of {where} has to be {_mismatch(item, members)}.")

    def __call__(self, data_dict: DataDict) -> DataDict:
        """Check the keys, all items and the lengths of a dictionary of iterables, and keep it as ``data``.

        Args:
            data_dict: The dictionary to check. Its iterables are read, to their ends.

        Returns:
            The same object.

        Raises:
            KeyError: Keys are missing or unknown; the message names all of them.
            TypeError: It isn't a dictionary, or a value or an item doesn't pass ``check_type``.
            DataError: The iterables differ in length.
        """
        super().__call__(data_dict)
        check_equal_lengths({key: _length(value) for key, value in data_dict.items()}, "data_dict")
        self._data = data_dict
        return data_dict


def check_iterable(value: object, where: str) -> None:
    """Check that a value can be iterated over and isn't a string (of characters or of bytes).

    Args:
        value: The value to check. It isn't read.
        where: What it is, for the message.

    Raises:
        TypeError: It can't be iterated over, or is a string.
    """
    if isinstance(value, str | bytes):
        raise TypeError(f"{where} has to be an iterable of items, but a string came: {_described(value)}.")
    try:
        iter(value)  # type: ignore[call-overload]
    except TypeError as error:
        raise TypeError(f"{where} has to be an iterable, but {_described(value)} came.") from error


def check_equal_lengths(lengths: Mapping[Any, int], where: str) -> None:
    """Check that the iterables of a dictionary are equally long.

    Args:
        lengths: The number of items of each key.
        where: What the dictionary is, for the message.

    Raises:
        DataError: They differ.
    """
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key!r}: {length}" for key, length in lengths.items())
        raise DataError(f"The iterables in {where} have to be equally long, but their lengths are {listed}.")


def nearest_name_hint(name: object, known: Iterable[str]) -> str:
    """What to say of an unknown name: the known name nearest to it, or else all that are known.

    Args:
        name: The unknown name.
        known: The names that there are.

    Returns:
        The hint, to be put right after the name.
    """
    names = list(known)
    nearest = nearest_name(name, names)
    return (
        f" (did you mean {nearest!r}?)" if nearest is not None else f" (known: {', '.join(map(repr, names)) or 'none'})"
    )


def _members(expected: object) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    is_union = isinstance(expected, types.UnionType) or typing.get_origin(expected) is typing.Union
    return typing.get_args(expected) if is_union else (expected,)


def _check_is_checkable(key: str, member: object) -> None:
    mistake = f"type_dict[{key!r}] has to be a class or a union of classes as int | str, but {member!r} came"
    if not isinstance(member, type):
        raise TypeError(f"{mistake}. Give the class itself: list for list[int], type(None) for None.")
    try:
        isinstance(None, member)
    except TypeError as error:
        raise TypeError(f"{mistake}, which isinstance can't check: {error}.") from error


def _is_instance(value: object, members: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return any(isinstance(value, member) for member in members if member is not int)
    return isinstance(value, members)


def _mismatch(value: object, members: tuple[type, ...]) -> str:
    expected = " | ".join(_type_name(member) for member in members)
    return f"{expected}, but {_described(value)} came"


def _described(value: object) -> str:
    return f"{reprlib.repr(value)} of type {_type_name(type(value))}"


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _length(iterable: Iterable[Any]) -> int:
    return len(iterable) if isinstance(iterable, Sized) else sum(1 for _ in iterable)
