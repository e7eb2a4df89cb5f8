"""Reading of a JSON file of a run directory as an object."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import read_json

Content = TypeVar("Content")


def read_parsed(file: Path, parse: Callable[[Any], Content]) -> Content | None:
    """Reads a JSON file.

    Args:
        file: The file.
        parse: Makes the object from the content. It raises KeyError, TypeError, ValueError or AttributeError for a
            content that torchbase doesn't write.

    Returns:
        The object; None if there is no file.

    Raises:
        RunDirectoryError: If the file can't be read, or has another content.
    """
    try:
        value = read_json(file)
    except RunDirectoryError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    try:
        return parse(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDirectoryError(
            f"{file} isn't what torchbase writes there: {type(error).__name__}: {error}. "
            "To fix, restore it, or remove it."
        ) from error
