"""The code in README.md and docs runs as it is written, and prints what the pages show.

The python blocks of a page run one after the other, in one namespace and a temporary folder. A block below the comment
``<!-- raises: NAME -->`` has to raise that error; a text block that follows it is what Python prints of the error. A
console block is what the python block before it prints on stdout and stderr, but numbers with a decimal point and the
paths of runs may differ. In both, a line that is indented by four spaces continues the line above, and ``…`` on a line
of its own in a console block stands for any number of lines.

A python block below the comment ``<!-- part of: PATH -->`` is a part of this file, which has tests of its own. It isn't
run: the file may need other libraries.
"""

import logging
import re
import traceback
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RAISES = re.compile(r"<!-- raises: (\w+) -->\n\Z")
PART_OF = re.compile(r"<!-- part of: (\S+) -->\n\Z")
LANGUAGES = {"python", "text", "console", "bash", "yaml", "{toctree}", "{eval-rst}", "{include}"}
MEASURED = re.compile(r"\d+\.\d+(?:e-?\d+)?")
RUN_DIRECTORY = re.compile(r"\S*/runs/\S+")
INSTALL_AND_TRAIN = "python -m pip install -c constraints.txt -e . && python examples/digits.py"
TEST = "python -m pip install nox && nox -s tests"


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int
    error: str | None
    file: str | None


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in FENCE.finditer(text):
        raises, part_of = (comment.search(text[: match.start()]) for comment in (RAISES, PART_OF))
        line = text[: match.start()].count("\n") + 1
        blocks.append(Block(match[1], match[2], line, raises and raises[1], part_of and part_of[1]))
    return blocks


def run(block, page, namespace):
    # Padded, so that a traceback names the line of the page.
    exec(compile("\n" * block.line + block.code, str(page), "exec"), namespace)


def error_of(block, page, namespace):
    try:
        run(block, page, namespace)
    except Exception as error:
        if type(error).__name__ == block.error:
            return error
        raise
    pytest.fail(f"{page.name}:{block.line} raised no {block.error}")


def joined(shown):
    """The text of a block, with each continued line joined to the line that it continues."""
    return re.sub(r"\n {4}(?=\S)", " ", shown)


def normalized(printed):
    """What a program printed, without what differs from run to run."""
    text = MEASURED.sub("0.0", RUN_DIRECTORY.sub("RUN", printed))
    return "".join(f"{' '.join(line.split())}\n" for line in text.splitlines())


def pattern_of(shown):
    lines = normalized(joined(shown)).splitlines()
    return "".join(r"(?:.*\n)*" if line == "…" else f"{re.escape(line)}\n" for line in lines)


def check_error(block, following, page, namespace):
    error = error_of(block, page, namespace)
    if following is not None and following.language == "text":
        assert "".join(traceback.format_exception_only(error)) == joined(following.code)


def check_printed(following, page, printed):
    if following is not None and following.language == "console":
        matches = re.fullmatch(pattern_of(following.code), normalized(printed))
        assert matches, f"{page.name}:{following.line} doesn't show what the block before it prints:\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_order_and_print_what_it_shows(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("torchbase"), "propagate", False)  # as where no logging is set up
    blocks = blocks_of(page)
    namespace = {"__name__": page.stem}
    for block, following in zip(blocks, [*blocks, None][1:], strict=True):
        if block.language != "python" or block.file is not None:
            continue
        capsys.readouterr()
        if block.error is None:
            run(block, page, namespace)
        else:
            check_error(block, following, page, namespace)
        printed = capsys.readouterr()
        check_printed(following, page, printed.out + printed.err)


def test_a_console_block_that_differs_in_a_word_or_a_count_is_noticed():
    shown = "epoch 1/6  loss 0.5, accuracy 0.25\n    | valid: loss 1.2e-05  0.1 s\n…\nstopped in /tmp/runs/2026\n"
    printed = "epoch 1/6  loss 10.24, accuracy 0.9 | valid: loss 3.5  0.0 s\n{}stopped in /home/me/runs/2025\n"
    assert re.fullmatch(pattern_of(shown), normalized(printed.format("")))
    assert re.fullmatch(pattern_of(shown), normalized(printed.format("one line\nanother\n")))
    for old, new in [("valid", "train"), ("1/6", "2/6"), ("stopped", "ended"), (" | ", "\n"), ("/runs", "")]:
        assert not re.fullmatch(pattern_of(shown), normalized(printed.format("").replace(old, new)))


def test_every_console_block_follows_a_python_block():
    for page in PAGES:
        languages = [block.language for block in blocks_of(page)]
        assert {before for before, one in pairwise(languages) if one == "console"} <= {"python"}, page.name


def test_every_raises_comment_is_right_above_a_python_block():
    for page in PAGES:
        marked = [block for block in blocks_of(page) if block.error is not None]
        assert page.read_text(encoding="utf-8").count("<!-- raises:") == len(marked)
        assert {block.language for block in marked} <= {"python"}


def test_a_block_that_is_part_of_a_file_is_in_it():
    blocks = [block for page in PAGES for block in blocks_of(page) if block.file is not None]
    assert blocks
    for block in blocks:
        assert block.code in (ROOT / block.file).read_text(encoding="utf-8"), f"{block.file}, line {block.line}"


def test_every_part_of_comment_is_right_above_a_python_block():
    for page in PAGES:
        marked = [block for block in blocks_of(page) if block.file is not None]
        assert page.read_text(encoding="utf-8").count("<!-- part of:") == len(marked)
        assert {block.language for block in marked} <= {"python"}


def test_every_block_names_its_language():
    for page in PAGES:
        for block in blocks_of(page):
            assert block.language in LANGUAGES, f"{page.name}:{block.line}"


def test_the_readme_has_the_two_commands():
    commands = [block.code.strip() for block in blocks_of(ROOT / "README.md") if block.language == "bash"]
    assert commands[:2] == [INSTALL_AND_TRAIN, TEST]


def test_the_continuous_integration_runs_the_test_command_of_the_readme():
    assert TEST in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_files_that_the_commands_name_exist():
    assert (ROOT / "constraints.txt").is_file()
    assert (ROOT / "examples" / "digits.py").is_file()
    assert (ROOT / "noxfile.py").is_file()


def test_the_tests_install_as_the_readme_does():
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    assert '"-c", "constraints.txt", "-e", "."' in noxfile
    assert INSTALL_AND_TRAIN.startswith("python -m pip install -c constraints.txt -e . &&")
