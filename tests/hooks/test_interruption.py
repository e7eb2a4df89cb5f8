import signal
import threading

import pytest

from torchbase import Engine, Phase, Run
from torchbase.hooks import Interruption


def run_with(step, batches=5):
    run = Run(training=Phase("training", range(batches), is_training=True), max_epochs=1)
    return run, Engine(step, hooks=[Interruption()])


def test_a_signal_ends_the_run_after_the_iteration_and_is_raised_then():
    done = []

    def step(run, phase, batch):
        if batch == 2:
            signal.raise_signal(signal.SIGINT)
        done.append(batch)

    run, engine = run_with(step)
    with pytest.raises(KeyboardInterrupt):
        engine.run(run)
    assert done == [0, 1, 2]
    assert run.stop_reason == "interrupted by SIGINT"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_does_not_wait_for_the_iteration():
    done = []

    def step(run, phase, batch):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append(batch)

    run, engine = run_with(step)
    with pytest.raises(KeyboardInterrupt):
        engine.run(run)
    assert done == []


def test_handlers_are_given_back_however_the_run_ends():
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


def test_a_programs_own_handler_hears_of_the_signal_when_the_run_is_kept():
    heard = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        run, engine = run_with(lambda run, phase, batch: signal.raise_signal(signal.SIGTERM))
        engine.run(run)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert heard == [signal.SIGTERM]
    assert run.progress.iterations == 1


def test_outside_the_main_thread_signals_are_left_alone():
    run, engine = run_with(lambda run, phase, batch: None)
    thread = threading.Thread(target=engine.run, args=(run,))
    thread.start()
    thread.join()
    assert run.epochs_done == 1
