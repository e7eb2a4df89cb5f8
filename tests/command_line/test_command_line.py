"""The command as a whole: what it imports, and how it writes to a terminal and to a pipe."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from glob import glob
from pathlib import Path

import pytest
from made_up import make_run, status_with

MAIN = "import sys; from torchbase.command_line import main; status = main()"
UNNEEDED = {"torch", "tensorboard", "datasets", "numpy", "pydantic", "filelock", "pluggy", "sklearn", "matplotlib"}


ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}


def start(*words, code="sys.exit(status)", env=ENVIRONMENT, **options):
    return subprocess.run([sys.executable, "-c", f"{MAIN}; {code}", *words], check=False, env=env, **options)


@pytest.fixture
def parent(tmp_path):
    make_run(tmp_path, "first", learning_rate=0.1)
    make_run(tmp_path, "second", status=status_with(state="failed"), learning_rate=0.2)
    (tmp_path / "first" / "hooks.json").write_text('{"hooks": {}, "events": {}}')
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "runs .",
        "runs . --json",
        "runs . --csv --sort learning_rate --where valid/loss>0",
        "tail ./first",
        "show ./first",
        "compare ./first ./second",
        "compare ./first ./second --html page.html",
        "hooks",
        "hooks ./first",
    ],
)
def test_a_command_that_reads_imports_neither_torch_nor_tensorboard(parent, words):
    code = "import json; sys.stderr.write(json.dumps(sorted(sys.modules))); sys.exit(status)"
    done = start(*words.split(), code=code, cwd=parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not {name.partition(".")[0] for name in json.loads(done.stderr)} & UNNEEDED


def test_a_reader_that_stops_early_causes_no_error(parent):
    for number in range(3000):  # more than a pipe holds
        os.mkdir(parent / f"2026-11-22_14-03-55_host-{number}")
    command = [sys.executable, "-c", f"{MAIN}; sys.exit(status)", "runs", str(parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"run ")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() in (0, 1)


def in_a_terminal(parent, *words, **environment):
    """Runs the command in a terminal of 80 columns and returns its output."""
    import pty

    env = {**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    leader, follower = pty.openpty()
    try:
        done = start(*words, stdout=follower, stderr=subprocess.PIPE, cwd=parent, env=env)
        os.close(follower)
        assert done.stderr == b""
        written = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # Linux reports the end this way
                return written.decode()
            if not part:
                return written.decode()
            written += part
    finally:
        os.close(leader)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_gets_colours_unless_they_are_disabled(parent):
    assert "\x1b[31mfailed\x1b[0m" in in_a_terminal(parent, "runs", ".")
    without = in_a_terminal(parent, "runs", ".", NO_COLOR="1")
    assert "failed" in without
    assert "\x1b[31m" not in without
    drawing = in_a_terminal(parent, "show", "./first")
    assert "\x1b[36m" in drawing
    assert "┤" in drawing
    assert "\x1b[3" not in in_a_terminal(parent, "show", "./first", NO_COLOR="1")


def test_a_pipe_gets_no_colours_and_unbroken_lines(parent):
    make_run(parent, "x" * 150)
    done = start("runs", ".", cwd=parent, capture_output=True)
    assert b"\x1b" not in done.stdout
    assert b"x" * 150 + b"  finished" in done.stdout
    assert not any(line.endswith(b" ") for line in done.stdout.splitlines())


def test_an_encoding_without_the_characters_of_curves_gets_question_marks(parent):
    env = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = start("show", "./first", cwd=parent, capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"0.9000 ?" in done.stdout


@pytest.mark.parametrize("output", ["--json", "--csv"])
def test_an_encoding_without_the_characters_of_a_config_is_no_error(parent, output):
    make_run(parent, "third", config={"session": {}, "network": {"note": "é漢"}})
    env = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = start("runs", ".", output, cwd=parent, capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"third" in done.stdout


@pytest.mark.parametrize("words", [[], ["rnus"], ["show"], ["runs", "--sort"]])
def test_invalid_arguments_return_status_2_and_the_usage(command, words):
    status, out, err = command(*words)
    assert (status, out) == (2, "")
    assert err.startswith("usage: torchbase")


@pytest.mark.parametrize("name", ["runs", "show", "tail", "compare", "hooks", "verify"])
def test_each_command_has_help(command, name):
    status, out, _ = command(name, "--help")
    assert status == 0
    assert out.startswith(f"usage: torchbase {name}")
    assert name in command("--help")[1]


def test_only_the_module_of_the_command_is_imported(parent):
    code = "import json; sys.stderr.write(json.dumps(sorted(sys.modules))); sys.exit(status)"
    done = start("runs", ".", code=code, cwd=parent, capture_output=True, text=True)
    imported = set(json.loads(done.stderr))
    assert "torchbase.command_line.runs" in imported
    assert not {f"torchbase.command_line.{name}" for name in ("show", "tail", "compare", "verify")} & imported


def test_the_commands_of_the_documentation_run(command, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    commands = [shlex.split(block.replace("\\\n", "").partition("|")[0]) for block in blocks]
    status = status_with(directions={"loss": "min", "accuracy": "max"})
    values = {"loss": 0.5, "accuracy": 0.5}
    for tag in set(re.findall(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\w+", "\n".join(blocks))):
        folder = make_run(tmp_path / "runs", tag, status=status, averages={"validation-valid": [values]})
        (folder / "hooks.json").write_text('{"hooks": {}, "events": {}}')
    monkeypatch.chdir(tmp_path)
    assert len(commands) > 7
    for program, *words in commands:
        assert program == "torchbase"
        expanded = [name for word in words for name in (sorted(glob(word)) if "*" in word else [word])]
        assert command(*expanded)[::2] == (0, ""), words


def test_reading_changes_nothing(command, parent):
    def state():
        return {str(path): path.stat().st_mtime_ns for path in parent.rglob("*")}

    before = state()
    time.sleep(0.01)
    first, second = parent / "first", parent / "second"
    for words in (("runs", parent), ("show", first), ("tail", first), ("compare", first, second)):
        command(*words)
    assert state() == before
