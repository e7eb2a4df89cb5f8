"""The pages fit a screen, and what they name exists."""

import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STOP = re.compile(r"^- \*\*Read:\*\* (.*?)(?=^- )", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"[(`]((?:torchbase|tests|examples|benchmarks)/[\w/.-]+)[)`]")
MAXIMUM_COLUMNS = 88  # what the column of the docs' theme shows without scrolling


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
