"""The page of the recipes lists each of them with its lines of code, fewer than those of the program it stands for."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "recipes"
FILES = {path.stem: path for path in (*FOLDER.glob("*.py"), FOLDER.parent / "gan.py")}
ROW = re.compile(
    r"^\| [^|]+ \| \[`(\w+)\.py`\]\(\.\./examples/(?:recipes/)?\1\.py\) \| (\d+) \| "
    r"\[[^]]+\]\(https://\S+\) \| (\d+) \|$",
    re.MULTILINE,
)
NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def lines_of_code(text):
    """How many lines of a program are neither blank nor comments or docstrings."""
    docstrings, code = set(), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            docstrings.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def rows():
    """The lines of each recipe and of the program that it stands for, as the page has them."""
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    return {name: (int(lines), int(others)) for name, lines, others in ROW.findall(page)}


def test_the_page_lists_each_recipe_with_its_lines():
    counted = {name: lines_of_code(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
    assert {name: lines for name, (lines, _) in rows().items()} == counted


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_recipe_says_how_to_run_it_and_is_shorter_than_what_it_stands_for(name):
    lines, lines_of_other = rows()[name]
    assert lines < lines_of_other
    docstring = ast.get_docstring(ast.parse(FILES[name].read_text(encoding="utf-8")))
    assert f"\n    python {FILES[name].relative_to(ROOT).as_posix()}\n" in docstring
    assert "Stands for " in docstring


def test_blank_lines_comments_and_docstrings_are_no_code():
    program = '"""A docstring\n\nof three lines."""\n\n# a comment\nx = 1  # another\ntext = """two\nlines"""\n'
    assert lines_of_code(program) == 3
