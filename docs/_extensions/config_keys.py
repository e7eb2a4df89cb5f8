"""Writes the table of the keys of `session` into the page about the config, from the fields of `SessionConfig`."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

from torchbase.run_directory.session_config import SessionConfig

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PLACE = "<!-- config keys -->"
HEAD = "| key | value | default | meaning |\n|---|---|---|---|\n"


def table() -> str:
    """Returns the keys as a table in Markdown, in the order of the fields."""
    return HEAD + "".join(
        f"| `{name}` | {_with_literals(str(field.title))} | {_default(name)} | {field.description} |\n"
        for name, field in SessionConfig.model_fields.items()
    )


def _with_literals(text: str) -> str:
    return re.sub(r"'[\w:]+'", r"`\g<0>`", text)


def _default(name: str) -> str:
    field = SessionConfig.model_fields[name]
    return "required" if field.is_required() else f"`{field.default!r}`"


def _insert_table(app: Sphinx, docname: str, source: list[str]) -> None:
    if PLACE in source[0]:
        source[0] = source[0].replace(PLACE, table())
        app.env.note_dependency(inspect.getfile(SessionConfig), docname=docname)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension; Sphinx calls it."""
    app.connect("source-read", _insert_table)
    return {"parallel_read_safe": True}
