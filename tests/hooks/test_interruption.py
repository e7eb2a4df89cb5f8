import signal
import threading

import pytest

from torchbase import Engine, Phase, Run
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
