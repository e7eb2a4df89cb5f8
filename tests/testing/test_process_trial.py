import time

import hooks_to_check as hooks
import pytest

from torchbase import hookimpl
from torchbase.testing import HookTrial, TinySession, tiny_config
from torchbase.testing.process_trial import Failure, ProcessTrial
from torchbase.testing.traces import Point


@pytest.fixture(scope="module", autouse=True)
def imported():
    """A run in this process imports what each forked process would import."""
    HookTrial(hooks.GradientNorms).without  # noqa: B018


@pytest.fixture(scope="module")
def tried():
    return ProcessTrial(HookTrial(hooks.GradientNorms), 2)


def test_the_processes_compute_different_numbers_of_parts(tried):
    assert (tried.count, tried.parts) == (2, 3)
    parts = [
        {(point.phase, point.iteration, point.part) for point in one.trace.points if point.event == "on_loss_computed"}
        for one in tried.together.records
    ]
    alone = {point for point in tried.alone.main.trace.points if point.event == "on_loss_computed"}
    assert parts[0] | parts[1] == {(point.phase, point.iteration, point.part) for point in alone}
    assert parts[0] & parts[1] == set()
    assert {part for phase, _, part in parts[0]} == {0, 1}
    # The last mini-batch has a single sample, so the second process has none.
    last = max(iteration for phase, iteration, _ in parts[0] if phase == "validation-valid")
    assert ("validation-valid", last, 0) in parts[0]
    assert not any((phase, iteration) == ("validation-valid", last) for phase, iteration, _ in parts[1])


def test_what_each_process_has_is_recorded(tried):
    main, other = tried.together.records
    assert not tried.together.has_failed
    assert tried.together.main is main
    assert main.outcome.keys() == other.outcome.keys()
    assert {"network", "the hook's state", "scalars", "files"} <= tried.together.outcome.keys()
    assert Point("on_run_end", "training", 10) in other.trace.points
    assert any(one.path.endswith("/config.json") for one in main.writes)
    assert other.writes == ()
    assert all(one.path.startswith(tried.together.folder) for one in main.writes)


@pytest.mark.parametrize(
    ("keys", "count", "parts"),
    [({}, 2, 3), ({"mini_batch_size": 4}, 4, 4), ({"mini_batch_parts": 4}, 2, 4), ({"mini_batch_parts": 2}, 3, 3)],
)
def test_a_config_of_the_author_keeps_its_sizes(keys, count, parts):
    config = tiny_config(**keys)
    tried = ProcessTrial(HookTrial(hooks.GradientNorms, TinySession, config), count)
    assert tried.parts == parts
    expected = HookTrial(hooks.GradientNorms, TinySession, config).config
    expected["session"]["mini_batch_parts"] = parts
    assert tried.trial.config == expected


class FailsElsewhere:
    @hookimpl
    def on_epoch_end(self, run):
        if not run.processes.is_main:
            raise OSError("no such account")


def test_an_error_of_one_process_ends_all():
    main, other = ProcessTrial(HookTrial(FailsElsewhere), 2).together.records
    assert other.failure.message.startswith("OSError: no such account; in the hook 'fails_elsewhere', at on_epoch_end")
    assert other.failure == Failure(other.failure.message, "on_epoch_end")
    assert main.failure.is_of_communication
    assert main.failure.places == ()
    assert main.outcome == other.outcome == {}


class Waits:
    """Waits for ever on one process, while the other waits for it."""

    @hookimpl
    def on_run_start(self, run):
        while not run.processes.is_main:
            time.sleep(0.01)


def test_a_process_that_takes_too_long_is_ended_where_it_is():
    tried = ProcessTrial(HookTrial(Waits), 2)
    for seconds in (2, 8, 32, 128):  # under load, a process reaches the event late
        run = tried.run(2, seconds)
        if run.records[1].failure.event is not None:
            break
    late = Failure("it took too long", None, is_of_communication=True, is_late=True)
    assert [one.failure for one in run.records] == [late, Failure("it took too long", "on_run_start", True, True)]
