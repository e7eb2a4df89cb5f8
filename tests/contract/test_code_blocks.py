"""The code in README.md and docs runs as it stands.

The python blocks of a file run one after the other, in one namespace and a temporary folder. A block under the comment
``<!-- raises: NAME -->`` has to end with that error; a text block that follows it is what Python prints of the error.
"""

import re
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RAISES = re.compile(r"<!-- raises: (\w+) -->\n\Z")
INSTALL_AND_TRAIN = "python -m pip install -c constraints.txt -e . && python examples/digits.py"
TEST = "python -m pip install nox && nox -s tests"


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int
    error: str | None


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in FENCE.finditer(text):
        raises = RAISES.search(text[: match.start()])
        line = text[: match.start()].count("\n") + 1
        blocks.append(Block(match[1], match[2], line, raises[1] if raises else None))
    return blocks


def run(block, page, namespace):
    # Padded, so that a traceback tells the line of the page.
    exec(compile("\n" * block.line + block.code, str(page), "exec"), namespace)


def error_of(block, page, namespace):
    try:
        run(block, page, namespace)
    except Exception as error:
        if type(error).__name__ == block.error:
            return error
        raise
    pytest.fail(f"{page.name}:{block.line} raised no {block.error}")


def check_error(block, following, page, namespace):
    error = error_of(block, page, namespace)
    if following is not None and following.language == "text":
        assert "".join(traceback.format_exception_only(error)) == following.code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_their_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(page)
    namespace = {"__name__": page.stem}
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language == "python" and block.error is None:
            run(block, page, namespace)
        elif block.language == "python":
            check_error(block, following, page, namespace)


def test_every_raises_comment_stands_right_above_a_python_block():
    for page in PAGES:
        marked = [block for block in blocks_of(page) if block.error is not None]
        assert page.read_text(encoding="utf-8").count("<!-- raises:") == len(marked)
        assert {block.language for block in marked} <= {"python"}


def test_every_block_says_what_language_it_is_in():
    for page in PAGES:
        for block in blocks_of(page):
            assert block.language in {"python", "text", "bash", "{toctree}", "{eval-rst}"}, f"{page.name}:{block.line}"


def test_the_readme_gives_the_two_commands():
    commands = [block.code.strip() for block in blocks_of(ROOT / "README.md") if block.language == "bash"]
    assert commands[:2] == [INSTALL_AND_TRAIN, TEST]


def test_the_continuous_integration_tests_by_the_command_of_the_readme():
    assert TEST in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_files_that_the_commands_name_are_there():
    assert (ROOT / "constraints.txt").is_file()
    assert (ROOT / "examples" / "digits.py").is_file()
    assert (ROOT / "noxfile.py").is_file()


def test_the_tests_install_as_the_readme_does():
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    assert '"-c", "constraints.txt", "-e", "."' in noxfile
    assert INSTALL_AND_TRAIN.startswith("python -m pip install -c constraints.txt -e . &&")
