import io
import logging
import os
import pty
import re
import sys
import termios
from pathlib import Path

import pytest
from tiny import CONFIG, TinySession

from torchbase import Engine, Phase, Run
from torchbase.hooks import Console, console

SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tiny import CONFIG, TinySession
TinySession(CONFIG, sys.argv[1])()
"""


def test_without_a_terminal_plain_lines_are_shown(programs, tmp_path):
    # Without warnings: those of other packages depend on their versions.
    done = programs.run("-W", "ignore", "-c", SCRIPT, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    (directory,) = tmp_path.iterdir()
    assert done.stdout == ""
    assert lines[0] == f"2 epochs on cpu, 57 parameters in {directory}"
    assert lines[1] == "network: 57 parameters in 6 modules, 300 B"
    assert re.fullmatch(r"epoch 1/2  \d+\.\d s, best", lines[2])
    assert re.fullmatch(r"  training: loss \S+ \| valid: loss \S+ \| demo: loss \S+", lines[3])
    assert lines[4].startswith("epoch 2/2  ")
    assert lines[-2].startswith("validation-valid: lowest loss ")
    assert len(lines) == 8
    assert max(map(len, lines[1:])) <= 80
    assert "\r" not in done.stderr


class OnlyWrites:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


class IsNoTerminal(OnlyWrites):
    def isatty(self):
        return True


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("make_stream", [lambda: None, closed, OnlyWrites, IsNoTerminal, io.StringIO])
@pytest.mark.parametrize("is_configured", [True, False])
def test_a_program_trains_with_any_stderr_or_none(tmp_path, monkeypatch, capsys, make_stream, is_configured):
    monkeypatch.setattr(logging.getLogger("torchbase"), "propagate", is_configured)  # pytest configures the root
    monkeypatch.setattr(sys, "stderr", make_stream())
    assert TinySession(CONFIG, tmp_path)().epochs_done == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("lose", ["sys.stderr.close()", "sys.stderr = None"])
def test_a_program_that_loses_its_stderr_trains_on(programs, tmp_path, lose):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tiny import CONFIG, TinySession
from torchbase import hookimpl
class Lose:
    @hookimpl
    def on_iteration_start(self, run):
        if run.progress.iterations == 2 and sys.stderr is not None and not sys.stderr.closed:
            {lose}
session = TinySession(CONFIG, sys.argv[1])
session.register(Lose())
print(session().epochs_done)
"""
    done = programs.run("-c", script, tmp_path)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_in_a_terminal_the_bar_does_not_break_lines(programs, tmp_path):
    terminal, process_side = pty.openpty()
    termios.tcsetwinsize(process_side, (24, 120))
    process = programs.start("-c", SCRIPT, tmp_path, terminal=process_side)
    os.close(process_side)
    output = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        output += part
    assert process.wait() == 0
    text = output.decode()
    assert "epoch 1/2 training" in text
    assert "batch/s" in text
    lines = text.replace("\r", "\n").split("\n")
    assert any(re.match(r"(epoch 1/2)?  training: loss ", line) for line in lines)  # by the width, one line or two


def test_a_program_with_configured_logging_receives_the_lines(tmp_path, caplog, capsys):
    with caplog.at_level(logging.INFO, "torchbase"):
        TinySession(CONFIG, tmp_path)()
    assert "2 epochs on cpu, 57 parameters in" in caplog.text
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("torchbase").handlers == []


def test_without_a_terminal_a_long_epoch_logs_lines_from_time_to_time(monkeypatch, caplog):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_PLAIN_LINES", 0.0)
    run = Run(training=Phase("training", range(130), is_training=True), max_epochs=1)
    with caplog.at_level(logging.INFO, "torchbase"):
        Engine(lambda run, phase, batch: run.log("loss", 0.5), hooks=[Console()]).run(run)
    assert "epoch 1/1 training: mini-batch 64 of 130, loss 0.5" in caplog.text


def test_a_loader_without_a_length_is_supported(caplog):
    class Endless:
        def __iter__(self):
            return iter(range(3))

    run = Run(training=Phase("training", Endless(), is_training=True), max_epochs=1)
    with caplog.at_level(logging.INFO, "torchbase"):
        Engine(lambda run, phase, batch: None, hooks=[Console()]).run(run)
    assert "epoch 1/1" in caplog.text


def test_handlers_are_removed_after_an_error():
    logger = logging.getLogger("torchbase")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    logger.propagate = False
    try:

        def step(run, phase, batch):
            assert len(logger.handlers) == 1
            raise KeyError

        with pytest.raises(KeyError):
            Engine(step, hooks=[Console()]).run(Run(training=Phase("training", [1], is_training=True), max_epochs=1))
        assert logger.handlers == handlers
        assert logger.level == level
    finally:
        logger.propagate = propagate
