"""Directives that list the events and the hooks from the source, so no page has to repeat them.

``.. events:: loop`` and ``.. events:: logging`` document each event by the docstring of its specification.
``.. default-hooks::`` and ``.. other-hooks::`` show each hook with the first line of its docstring.
"""

import inspect
import tempfile
from collections.abc import Iterable, Sequence

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from torchbase import hooks
from torchbase.engine import hookspecs
from torchbase.engine.hook_checks import EVENT_NAMES, name_of
from torchbase.testing import TinySession, tiny_config

LOGGING_EVENTS = tuple(name for name in EVENT_NAMES if name.startswith("log_"))
LOOP_EVENTS = tuple(name for name in EVENT_NAMES if name not in LOGGING_EVENTS)


class Events(SphinxDirective):
    """Documents the events of the loop, or those for logging, in the order of their specifications."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns one function description per event."""
        group = directives.choice(self.arguments[0], ("loop", "logging"))
        names = LOOP_EVENTS if group == "loop" else LOGGING_EVENTS
        functions = "\n".join(f".. autofunction:: {hookspecs.__name__}.{name}\n" for name in names)
        return self.parse_text_to_nodes(functions)


class DefaultHooks(SphinxDirective):
    """Shows the default hooks in the order in which they are called."""

    def run(self) -> list[nodes.Node]:
        """Returns a table of their names, what they do and the events they implement."""
        rows = [(f"``{name_of(hook)}``", describe(type(hook)), list_events(type(hook))) for hook in default_hooks()]
        return self.parse_text_to_nodes(make_table(("name", "hook", "events"), rows))


class OtherHooks(SphinxDirective):
    """Shows the hooks that a user registers."""

    def run(self) -> list[nodes.Node]:
        """Returns a table of what they do and the events they implement."""
        defaults = {type(hook) for hook in default_hooks()}
        others = [kind for kind in (getattr(hooks, name) for name in hooks.__all__) if kind not in defaults]
        rows = [(describe(kind), list_events(kind)) for kind in others]
        return self.parse_text_to_nodes(make_table(("hook", "events"), rows))


def default_hooks() -> list[object]:
    """Returns the default hooks of a session."""
    with tempfile.TemporaryDirectory() as folder:
        return TinySession(tiny_config(deterministic=True), folder).default_hooks()


def describe(kind: type) -> str:
    """Returns a link to a hook, and the first line of its docstring."""
    return f":class:`~torchbase.hooks.{kind.__name__}`: {(inspect.getdoc(kind) or '').partition(chr(10))[0]}"


def list_events(kind: type) -> str:
    """Returns links to the events that a hook implements, each with the options of its ``@hookimpl``."""
    marks = {
        name: mark_of(getattr(kind, name).torchbase_impl)
        for name in EVENT_NAMES
        if hasattr(getattr(kind, name, None), "torchbase_impl")
    }
    links = [f":func:`~{hookspecs.__name__}.{name}`{mark}" for name, mark in marks.items()]
    if set(LOGGING_EVENTS) <= marks.keys():
        links = [*links[: -len(LOGGING_EVENTS)], "``log_…``"]
    return ", ".join(links)


def mark_of(options: dict[str, bool]) -> str:
    """Returns what the options of ``@hookimpl`` ask for."""
    if options["wrapper"]:
        return " (wrapper)"
    return " (first)" if options["tryfirst"] else " (last)" if options["trylast"] else ""


def make_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (heads, *rows):
        lines += [f"   {'* -' if position == 0 else '  -'} {cell}" for position, cell in enumerate(row)]
    return "\n".join(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directives."""
    app.add_directive("events", Events)
    app.add_directive("default-hooks", DefaultHooks)
    app.add_directive("other-hooks", OtherHooks)
    return {"parallel_read_safe": True}
