"""The pages fit a screen, and what they name exists."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import torchbase

ROOT = Path(__file__).parents[2]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STOP = re.compile(r"^- \*\*Read:\*\* (.*?)(?=^- )", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"[(`]((?:torchbase|tests|examples|benchmarks)/[\w/.-]+)[)`]")
MAXIMUM_COLUMNS = 88  # what the column of the docs' theme shows without scrolling
MAXIMUM_COLUMNS_OF_DOCSTRINGS = 83  # the reference indents them
LITERAL_BLOCK = re.compile(r"::\n\n((?:(?: {4}.*)?\n)+)")


def code_lines(page):
    """The lines of a page's blocks of code, each with its number."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        if match[1].startswith("{"):  # a directive of Sphinx
            continue
        first = text[: match.start()].count("\n") + 2
        yield from enumerate(match[2].splitlines(), first)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_code_is_wider_than_the_column(page):
    too_wide = [f"{page.name}:{number}: {line}" for number, line in code_lines(page) if len(line) > MAXIMUM_COLUMNS]
    assert too_wide == []


def docstrings():
    """The docstring of each public module, class, function and method, with its name and what fits the page."""
    for found in pkgutil.walk_packages(torchbase.__path__, "torchbase."):
        module = importlib.import_module(found.name)
        yield found.name, inspect.getdoc(module), MAXIMUM_COLUMNS
        for name, one in vars(module).items():
            if name.startswith("_") or getattr(one, "__module__", None) != found.name:
                continue
            yield f"{found.name}.{name}", inspect.getdoc(one), MAXIMUM_COLUMNS_OF_DOCSTRINGS
            for method_name, method in vars(one).items() if inspect.isclass(one) else ():
                yield f"{found.name}.{name}.{method_name}", inspect.getdoc(method), MAXIMUM_COLUMNS_OF_DOCSTRINGS


def test_no_line_of_code_in_a_docstring_is_wider_than_the_reference():
    too_wide = []
    for name, docstring, columns in docstrings():
        text = f"{docstring or ''}\n"
        examples = re.findall(r"^ *((?:>>>|\.\.\.) .*)", text, re.MULTILINE)
        literal = [line.removeprefix("    ") for block in LITERAL_BLOCK.findall(text) for line in block.splitlines()]
        lines = [*examples, *literal]
        too_wide += [f"{name}: {line}" for line in lines if len(line) > columns]
    assert too_wide == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page):
    named = PATH.findall(page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_what_the_tour_reads_exists():
    stops = STOP.findall((ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8"))
    assert len(stops) == 10
    for stop in stops:
        files = re.findall(r"`(torchbase/[\w/]+)\.py`((?:,\s*`[\w.]+`)+)", stop)
        assert files
        for path, names in files:
            for name in re.findall(r"`([\w.]+)`", names):
                assert pkgutil.resolve_name(f"{path.replace('/', '.')}:{name}")
