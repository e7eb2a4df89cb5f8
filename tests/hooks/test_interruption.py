import signal
import textwrap
import threading
from pathlib import Path

import pytest
from tiny import TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import Interruption


def run_with(step, batches=5):
    run = Run(training=Phase("training", range(batches), is_training=True), max_epochs=1)
    return run, Engine(step, hooks=[Interruption()])


def test_a_signal_stops_the_run_after_the_iteration_and_is_raised_again():
    completed = []

    def step(run, phase, batch):
        if batch == 2:
            signal.raise_signal(signal.SIGINT)
        completed.append(batch)

    run, engine = run_with(step)
    with pytest.raises(KeyboardInterrupt):
        engine.run(run)
    assert completed == [0, 1, 2]
    assert run.stop_reason == "interrupted by SIGINT"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_ends_the_program_at_once():
    completed = []

    def step(run, phase, batch):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        completed.append(batch)

    run, engine = run_with(step)
    with pytest.raises(KeyboardInterrupt):
        engine.run(run)
    assert completed == []


def test_handlers_are_restored_after_success_and_after_an_error():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run, engine = run_with(lambda run, phase, batch: None)
    engine.run(run)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    def fail(run, phase, batch):
        raise KeyError

    run, engine = run_with(fail)
    with pytest.raises(KeyError):
        engine.run(run)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_handler_of_the_program_is_called_at_the_end_of_the_run():
    received = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        run, engine = run_with(lambda run, phase, batch: signal.raise_signal(signal.SIGTERM))
        engine.run(run)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert received == [signal.SIGTERM]
    assert run.progress.iterations == 1


def test_outside_the_main_thread_no_handlers_are_set():
    run, engine = run_with(lambda run, phase, batch: None)
    thread = threading.Thread(target=engine.run, args=(run,))
    thread.start()
    thread.join()
    assert run.epochs_done == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_ignored(number):
    former = signal.signal(number, signal.SIG_IGN)
    try:
        run, engine = run_with(lambda run, phase, batch: signal.raise_signal(number))
        engine.run(run)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, former)
    assert (run.epochs_done, run.stop_reason) == (1, None)


def test_without_a_run_directory_the_message_says_that_nothing_is_saved():
    run, engine = run_with(lambda run, phase, batch: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match=r"SIGINT ended the run\. Nothing is saved, since"):
        engine.run(run)


SCRIPT = """
    import os
    import signal
    import sys

    from torchbase import hookimpl
    from torchbase.testing import TinySession, tiny_config


    class SendSignals:
        def __init__(self, iterations, names):
            self.iterations, self.names = iterations, names

        @hookimpl
        def on_gradients_ready(self, run):
            if run.progress.iterations == self.iterations:
                run.run_directory.writes.wait()
                for name in self.names:
                    os.kill(os.getpid(), getattr(signal, name))
                self.names = []


    session = TinySession(tiny_config(num_epochs=3), sys.argv[1])
    session.register(SendSignals(int(sys.argv[2]), sys.argv[3:]))
    print(session().epochs_done)
"""


@pytest.fixture
def run_script(programs, tmp_path):
    """Trains in a process that sends itself signals. Like a job of a shell script, it can ignore some."""

    def run(iterations, *names, ignored=()):
        ignore = [f"import signal; signal.signal(signal.{name}, signal.SIG_IGN)" for name in ignored]
        code = "\n".join([*ignore, textwrap.dedent(SCRIPT)])
        return programs.run("-W", "ignore", "-c", code, tmp_path, iterations, *names)

    return run


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")
def test_signals_that_the_parent_ignores_do_not_end_the_program(run_script):
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    done = run_script(0, *names, *names, ignored=names)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert "ended the run" not in done.stderr


def test_the_last_line_after_ctrl_c_says_what_is_saved_and_how_to_continue(run_script, tmp_path):
    done = run_script(7, "SIGINT")
    assert done.returncode == -signal.SIGINT
    (directory,) = tmp_path.iterdir()
    frames = [line for line in done.stderr.splitlines() if line.strip().startswith("File ")]
    assert [Path(line.split('"')[1]).name for line in frames] == ["<string>", "base.py"]
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"KeyboardInterrupt: SIGINT ended the run. Its state is saved in {directory}. ")
    call = last.partition("To continue: ")[2]
    assert call == f"TinySession.resume({str(tmp_path)!r}, {directory.name!r})()"
    assert eval(call, {"TinySession": TinySession}).epochs_done == 3


def test_the_last_line_before_sigterm_ends_the_program_says_the_same(run_script, tmp_path):
    done = run_script(7, "SIGTERM")
    assert done.returncode == -signal.SIGTERM
    assert "Traceback" not in done.stderr
    (directory,) = tmp_path.iterdir()
    assert done.stderr.splitlines()[-1].startswith(f"SIGTERM ended the run. Its state is saved in {directory}. To cont")


def test_the_last_line_after_a_second_signal_says_what_was_saved_before(run_script, tmp_path):
    done = run_script(7, "SIGINT", "SIGINT")
    assert done.returncode == -signal.SIGINT
    (directory,) = tmp_path.iterdir()
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Its state after 5 iterations is saved in {directory}. To continue: TinySession.resume(")
    assert "send_signals" in done.stderr


def test_a_run_interrupted_in_its_last_iteration_is_not_continued(tmp_path):
    session = TinySession(config_with(num_epochs=1), tmp_path)

    class AtTheEnd:
        @hookimpl
        def on_epoch_end(self):
            signal.raise_signal(signal.SIGINT)

    session.register(AtTheEnd())
    with pytest.raises(KeyboardInterrupt, match="All its epochs are done and saved in"):
        session()


def test_an_interrupt_before_the_first_checkpoint_is_said_to_have_none(tmp_path):
    session = TinySession(config_with(num_epochs=1), tmp_path)

    class AtOnce:
        @hookimpl
        def on_iteration_start(self):
            raise KeyboardInterrupt

    session.register(AtOnce())
    with pytest.raises(KeyboardInterrupt) as caught:
        session()
    assert caught.value.__notes__[-1] == f"There is no whole checkpoint in {session.run_dir}."
