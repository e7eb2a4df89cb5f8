"""The catalogue of events, read from the source of `torchbase.engine.hookspecs`: importing it would import torch."""

import ast
from dataclasses import dataclass
from importlib import resources

ANSWERS = (
    "on_…, log_…: answers are ignored",
    "compute_…: the dictionaries of all hooks are merged",
    "is_…, should_…: the first answer that isn't None counts",
    "run_…: one hook does it, and wrappers go around it",
)


@dataclass(frozen=True)
class EventDescription:
    """An event.

    Attributes:
        name: Its name.
        arguments: What it gives to the hooks.
        summary: When it is told, or what it asks for, in a sentence or two.
    """

    name: str
    arguments: tuple[str, ...]
    summary: str


def read_catalogue() -> list[EventDescription]:
    """Reads the events.

    Returns:
        The events in the order of the loop.
    """
    source = resources.files("torchbase").joinpath("engine", "hookspecs.py").read_text(encoding="utf-8")
    return [
        _describe(one)
        for one in ast.parse(source).body
        if isinstance(one, ast.FunctionDef) and one.decorator_list  # each is marked as a specification
    ]


def _describe(specification: ast.FunctionDef) -> EventDescription:
    summary = (ast.get_docstring(specification) or "").partition("\n\n")[0]
    return EventDescription(
        name=specification.name,
        arguments=tuple(argument.arg for argument in specification.args.args),
        summary=" ".join(summary.replace("``", "`").split()),
    )
