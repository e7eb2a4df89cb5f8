"""The catalogue of events, read from the source of `torchbase.engine.hookspecs`, since importing it imports torch."""

import ast
from dataclasses import dataclass
from importlib import resources

RETURN_VALUES = (
    "on_…, log_…: return values are ignored",
    "compute_…: the dictionaries of all hooks are merged",
    "is_…, should_…: the first return value that is not None wins",
    "run_…: one hook does the work, and its return value is used",
)


@dataclass(frozen=True)
class EventDescription:
    """An event.

    Attributes:
        name: The name.
        arguments: The names of its arguments.
        summary: The first paragraph of its docstring: when it fires or what its hooks do.
    """

    name: str
    arguments: tuple[str, ...]
    summary: str


def read_catalogue() -> list[EventDescription]:
    """Reads the descriptions of all events.

    Returns:
        The events in the order of the loop.
    """
    source = resources.files("torchbase").joinpath("engine", "hookspecs.py").read_text(encoding="utf-8")
    return [
        _describe(definition)
        for definition in ast.parse(source).body
        if isinstance(definition, ast.FunctionDef) and definition.decorator_list  # decorated with hookspec
    ]


def _describe(specification: ast.FunctionDef) -> EventDescription:
    summary = (ast.get_docstring(specification) or "").partition("\n\n")[0]
    return EventDescription(
        name=specification.name,
        arguments=tuple(argument.arg for argument in specification.args.args),
        summary=" ".join(summary.replace("``", "`").split()),
    )
