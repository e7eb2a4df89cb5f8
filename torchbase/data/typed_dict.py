"""Checkers of dictionaries: the keys have to match, and the values have to be of the expected types."""

import reprlib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

from torchbase.errors import DataError, nearest_name

DataDict = TypeVar("DataDict", bound=Mapping[str, Any])


class TypedDict:
    """A checker of dictionaries with a fixed set of keys and a type for the value of each key.

    Values are checked with ``isinstance``, except that a ``bool`` is not accepted as an ``int``.

    Attributes:
        type_dict: The expected type, or union of types, of each key.

    Example:
        >>> check = TypedDict({"image": torch.Tensor, "label": int | str})
        >>> sample = check({"image": torch.zeros(3), "label": "cat"})
    """

    def __init__(self, type_dict: Mapping[str, type | types.UnionType]) -> None:
        """Checks and stores the expected types.

        Args:
            type_dict: The expected type of each key: a class, or a union of classes such as ``int | str``.

        Raises:
            TypeError: ``type_dict`` is not a dictionary, a key is not a string, or a value is neither a class nor a
                union of classes that ``isinstance`` can check.
        """
        if not isinstance(type_dict, Mapping):
            raise TypeError(f"type_dict has to be a dictionary of types, but got {_type_name(type(type_dict))}.")
        for key, expected in type_dict.items():
            if not isinstance(key, str):
                raise TypeError(f"The keys of type_dict have to be str, but got {_describe(key)}.")
            for member in _members(expected):
                _check_is_checkable(key, member)
        self.type_dict: Mapping[str, type | types.UnionType] = dict(type_dict)

    def check_type(self, key: str, value: Any) -> None:
        """Checks the type of a value.

        Args:
            key: The key of the value.
            value: The value.

        Raises:
            KeyError: ``type_dict`` has no such key.
            TypeError: The value is not of the type that the key expects.
        """
        members = self._expected_members(key)
        if not _is_instance(value, members):
            raise TypeError(f"data_dict[{key!r}] has to be {_mismatch(value, members)}.")

    def __call__(self, data_dict: DataDict) -> DataDict:
        """Checks the keys and all values of a dictionary.

        Args:
            data_dict: The dictionary.

        Returns:
            The same object.

        Raises:
            KeyError: Keys are missing or unknown. The message names all of them.
            TypeError: ``data_dict`` is not a dictionary, or a value is not of the type that its key expects.
        """
        if not isinstance(data_dict, Mapping):
            raise TypeError(f"data_dict has to be a dictionary, but got {_type_name(type(data_dict))}.")
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
        problems = [f"{kind}: {', '.join(keys)}" for kind, keys in (("missing", missing), ("unknown", unknown)) if keys]
        if problems:
            raise KeyError(f"The keys have to be exactly {list(self.type_dict)}; {'; '.join(problems)}.")


class TypedDictIterable(TypedDict):
    """A checker of dictionaries of iterables. They have to be of equal length, with all items of the type of their key.

    ``check_type`` checks a whole iterable. Iterators such as generators raise a TypeError, since they can't be read
    again after the check. Strings raise a TypeError, too, since they are rarely meant as iterables.

    Attributes:
        type_dict: The expected type, or union of types, of the items of each key.

    Example:
        >>> check = TypedDictIterable({"prompt": str, "label": int})
        >>> columns = check({"prompt": ["a", "b"], "label": (0, 1)})
    """

    _data: Mapping[str, Iterable[Any]] | None = None

    @property
    def data(self) -> Mapping[str, Iterable[Any]] | None:
        """The dictionary that last passed the check, or None. Assigning a dictionary checks it."""
        return self._data

    @data.setter
    def data(self, data_dict: Mapping[str, Iterable[Any]]) -> None:
        self(data_dict)

    def check_type(self, key: str, value: Any) -> None:
        """Checks the types of all items of an iterable.

        Args:
            key: The key of the iterable.
            value: The iterable.

        Raises:
            KeyError: ``type_dict`` has no such key.
            TypeError: The value is not iterable, can be read only once, or is a string; or an item is not of the type
                that the key expects. The message names the index of the first such item.
        """
        members = self._expected_members(key)
        where = f"data_dict[{key!r}]"
        check_iterable(value, where)
        if isinstance(value, Iterator):
            raise TypeError(
                f"{where} is a {_type_name(type(value))}, which can be read only once, so the check would exhaust it. "
                f"To fix, convert it to a list first: list(...)."
            )
        for index, item in enumerate(value):
            if not _is_instance(item, members):
                raise TypeError(f"Item {index} of {where} has to be {_mismatch(item, members)}.")

    def __call__(self, data_dict: DataDict) -> DataDict:
        """Checks the keys, all items and the lengths of a dictionary of iterables, and stores it as ``data``.

        Args:
            data_dict: The dictionary. Its iterables are read completely.

        Returns:
            The same object.

        Raises:
            KeyError: Keys are missing or unknown. The message names all of them.
            TypeError: ``data_dict`` is not a dictionary, or a value doesn't pass ``check_type``.
            DataError: The iterables differ in length.
        """
        super().__call__(data_dict)
        check_equal_lengths({key: _length(value) for key, value in data_dict.items()}, "data_dict")
        self._data = data_dict
        return data_dict


def check_iterable(value: object, where: str) -> None:
    """Checks that a value is iterable and not a string or bytes.

    Args:
        value: The value. It is not read.
        where: The name of the value in the message.

    Raises:
        TypeError: The value is not iterable, or is a string or bytes.
    """
    if isinstance(value, str | bytes):
        raise TypeError(f"{where} has to be an iterable of items, but got a string: {_describe(value)}.")
    try:
        iter(value)  # type: ignore[call-overload]
    except TypeError as error:
        raise TypeError(f"{where} has to be an iterable, but got {_describe(value)}.") from error


def check_equal_lengths(lengths: Mapping[Any, int], where: str) -> None:
    """Checks that the iterables of a dictionary are of equal length.

    Args:
        lengths: The number of items of each key.
        where: The name of the dictionary in the message.

    Raises:
        DataError: The lengths differ.
    """
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key!r}: {length}" for key, length in lengths.items())
        raise DataError(f"The iterables in {where} have to be of equal length, but their lengths are {listed}.")


def nearest_name_hint(name: object, known: Iterable[str]) -> str:
    """Returns a hint for an unknown name: the nearest known name, or all known names if none is near.

    Args:
        name: The unknown name.
        known: The known names.

    Returns:
        The hint. It starts with a space, to be appended to the name.
    """
    names = list(known)
    nearest = nearest_name(name, names)
    return (
        f" (did you mean {nearest!r}?)"
        if nearest is not None
        else f" (available: {', '.join(map(repr, names)) or 'none'})"
    )


def _members(expected: object) -> tuple[Any, ...]:
    """Returns the types of a union, or the single type."""
    is_union = isinstance(expected, types.UnionType) or typing.get_origin(expected) is typing.Union
    return typing.get_args(expected) if is_union else (expected,)


def _check_is_checkable(key: str, member: object) -> None:
    problem = f"type_dict[{key!r}] has to be a class or a union of classes such as int | str, but got {member!r}"
    if not isinstance(member, type):
        raise TypeError(f"{problem}. To fix, pass the class itself: list for list[int], type(None) for None.")
    try:
        isinstance(None, member)
    except TypeError as error:
        raise TypeError(f"{problem}, which isinstance can't check: {error}.") from error


def _is_instance(value: object, members: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return any(isinstance(value, member) for member in members if member is not int)
    return isinstance(value, members)


def _mismatch(value: object, members: tuple[type, ...]) -> str:
    expected = " | ".join(_type_name(member) for member in members)
    return f"{expected}, but got {_describe(value)}"


def _describe(value: object) -> str:
    return f"{reprlib.repr(value)} of type {_type_name(type(value))}"


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _length(iterable: Iterable[Any]) -> int:
    return len(iterable) if isinstance(iterable, Sized) else sum(1 for _ in iterable)
