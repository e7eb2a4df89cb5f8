"""The progress bar of a terminal or a notebook."""

import sys
import warnings
from typing import Any, TextIO

from tqdm import TqdmWarning

with warnings.catch_warnings():
    # In a notebook without ipywidgets, tqdm warns in red. Lines are shown then in place of the bar.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

Bar = tqdm


def make_bar(description: str, total: int | None) -> "tqdm[Any]":
    """Creates a progress bar, which is disabled outside of a terminal and a notebook.

    Args:
        description: The text before the bar.
        total: The number of mini-batches; None if it isn't known.
    """
    disable = None if is_open(sys.stderr) else True  # None disables it outside of a terminal
    return tqdm(desc=description, total=total, unit="batch", leave=False, disable=disable)


def is_open(stream: TextIO | None) -> bool:
    """Whether a stream can be written to. A program without a console, such as a service, has None.

    Args:
        stream: A standard stream.
    """
    return stream is not None and not getattr(stream, "closed", False)


def is_notebook() -> bool:
    """Whether the program runs in a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
