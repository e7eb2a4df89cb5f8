"""Sessions in several threads of one process, which share the global random streams."""

import threading

import torch
from tiny import TinySession, config_with

from torchbase import hookimpl


def in_threads(*functions):
    """Calls each function in a thread of its own, all at once, and returns the errors."""
    errors, start = [], threading.Barrier(len(functions))

    def call(function):
        try:
            start.wait()
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(one,)) for one in functions]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return errors


def are_equal(first, second):
    first, second = first.network.state_dict(), second.network.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def sessions(tmp_path, count=3):
    return [TinySession(config_with(seed=seed), tmp_path) for seed in range(count)]


def test_sessions_that_train_in_threads_end_like_sessions_that_train_one_after_the_other(tmp_path):
    alone, together = sessions(tmp_path), sessions(tmp_path)
    for session in alone:
        session()
    assert in_threads(*together) == []
    assert all(map(are_equal, alone, together))


def test_an_evaluation_in_another_thread_leaves_the_training_as_it_is(tmp_path):
    alone, session, other = (TinySession(config_with(seed=seed), tmp_path) for seed in (1, 1, 2))
    alone()
    begun = threading.Event()

    class Begins:
        @hookimpl
        def on_epoch_start(self):
            begun.set()

    session.register(Begins())

    def evaluate():
        begun.wait()
        other.evaluate(other.dataset_train)
        list(other.predict(other.dataset_train))

    assert in_threads(session, evaluate) == []
    assert are_equal(alone, session)


def test_what_runs_within_a_training_in_its_thread_goes_on(tmp_path):
    inner = []

    class Nested:
        @hookimpl
        def on_epoch_end(self, run):
            session.evaluate(session.dataset_train)
            inner.append(TinySession(config_with(num_epochs=1), tmp_path)().epochs_done)

    alone, session = (TinySession(config_with(), tmp_path) for _ in range(2))
    session.register(Nested())
    alone()
    session()
    assert inner == [1, 1]
    assert are_equal(alone, session)
