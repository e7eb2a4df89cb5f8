"""Runs that end after a number of training iterations, and epochs of a number of iterations."""

import json
import re
from pathlib import Path

import pytest
import several
import torch
from divided import in_suite
from tiny import StopAt, TinySession, config_with, make_dataset, read_scalars
from whole_runs.test_resuming import ValidatedWithin, within_result_of
from whole_runs.test_streaming import StreamSession

from torchbase import ValidationDatasetsDict, hookimpl
from torchbase.errors import ConfigError, DataError
from torchbase.files.bitwise import different_values

SAMPLES = {"training_samples": 36}  # four mini-batches of 8 and one of 4


class Rows:
    """Stores the names of the rows of each training iteration."""

    def __init__(self):
        self.names = []

    @hookimpl
    def on_iteration_start(self, phase, batch):
        if phase.is_training:
            self.names.append(batch["name"])


def limited(iterations, **session):
    return config_with(**{"num_epochs": None, "num_iterations": iterations, **session})


def lines_of(session, name):
    return [json.loads(line) for line in Path(session.run_dir, name).read_text().splitlines()]


def saved_network(session):
    return torch.load(Path(session.run_dir, "network.pth"), weights_only=True)


def weights_after(tmp_path, iterations, make=TinySession):
    session = make(config_with(num_epochs=9), tmp_path / "whole")
    session.register(StopAt(iterations))
    session()
    return session.network.state_dict()


@pytest.mark.parametrize("make", [TinySession, ValidatedWithin, StreamSession])
@pytest.mark.parametrize("iterations", [1, 3, 5, 6, 7])
def test_a_run_ends_after_exactly_its_iterations_and_validates_and_votes_there(tmp_path, make, iterations):
    session = make(limited(iterations), tmp_path)
    summary = session()
    assert summary.iterations == iterations
    assert summary.stop_reason == f"all {iterations} iterations are done"
    assert different_values(weights_after(tmp_path, iterations, make), session.network.state_dict()) == []
    last = [one["phase"] for one in lines_of(session, "epochs.jsonl") if one["iterations"] == iterations]
    validation = [phase.name for phase in session._run.validation]
    assert last[-len(validation) :] == validation
    assert lines_of(session, "votes.jsonl")[-1]["iteration"] == iterations
    assert json.loads(Path(session.run_dir, "status.json").read_text())["state"] == "finished"
    session.load_best_network()


def test_iterations_that_end_an_epoch_are_the_same_as_epochs(tmp_path):
    epochs, iterations = (
        ValidatedWithin(config_with(num_epochs=2), tmp_path / "1"),
        ValidatedWithin(limited(10), tmp_path),
    )
    expected, found = epochs(), iterations()
    assert (found.epochs_done, found.stop_reason) == (2, "all 10 iterations are done")
    assert different_values(within_result_of(epochs, expected), within_result_of(iterations, found)) == []


@pytest.mark.parametrize(("epochs", "iterations", "done"), [(1, 7, (1, 5)), (2, 7, (1, 7)), (2, 10, (2, 10))])
def test_the_run_ends_at_the_bound_that_comes_first(tmp_path, epochs, iterations, done):
    summary = TinySession(limited(iterations, num_epochs=epochs), tmp_path)()
    assert (summary.epochs_done, summary.iterations) == done
    assert summary.stop_reason.startswith("all 1 epochs" if epochs == 1 else f"all {iterations} iterations")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    session = ValidatedWithin(limited(8), tmp_path_factory.mktemp("whole"))
    return within_result_of(session, session())


@pytest.mark.parametrize(
    ("phase", "iteration"),
    [
        *[("training", n) for n in (1, 3, 5, 6, 7, 8)],
        *[("validation-valid", n) for n in (1, 6, 7, 9)],
        *[("validation-demo", n) for n in (2, 3, 4)],
    ],
)
@pytest.mark.parametrize("checkpoints", [None, 1])
def test_a_stopped_run_resumes_to_the_same_end(tmp_path, uninterrupted, phase, iteration, checkpoints):
    session = ValidatedWithin(limited(8, checkpoint_every_n_iterations=checkpoints), tmp_path)
    session.register(StopAt(iteration, phase))
    session()
    again = ValidatedWithin.resume(tmp_path)
    assert different_values(uninterrupted, within_result_of(again, again())) == []


class FailError(Exception):
    """Raised for the test."""


class Fail:
    def __init__(self, event_phase, iteration):
        self._at = event_phase, iteration

    @hookimpl
    def on_iteration_start(self, phase):
        if (phase.name, phase.progress.iterations + 1) == self._at:
            raise FailError


@pytest.mark.parametrize(("phase", "iteration"), [("training", 8), ("validation-valid", 7), ("validation-demo", 3)])
def test_a_run_that_fails_near_its_end_resumes_to_the_same_end(tmp_path, uninterrupted, phase, iteration):
    session = ValidatedWithin(limited(8), tmp_path)
    session.register(Fail(phase, iteration))
    with pytest.raises(FailError):
        session()
    again = ValidatedWithin.resume(tmp_path)
    assert different_values(uninterrupted, within_result_of(again, again())) == []


class RefuseIterations:
    @hookimpl
    def on_iteration_start(self, phase):
        raise AssertionError(phase.name)


@pytest.mark.parametrize("iterations", [5, 7])
def test_a_run_that_is_resumed_after_its_last_iteration_does_nothing_more(tmp_path, iterations):
    session = TinySession(limited(iterations, checkpoint_every_n_iterations=1), tmp_path)
    expected = within_result_of(session, session())
    again = TinySession.resume(tmp_path)
    again.register(RefuseIterations())
    assert different_values(expected, within_result_of(again, again())) == []


@pytest.mark.parametrize("make", [TinySession, ValidatedWithin, StreamSession])
@pytest.mark.parametrize("first", [1, 5, 7])
def test_a_raised_number_of_iterations_continues_as_if_it_had_been_the_first(tmp_path, make, first):
    whole = make(limited(12), tmp_path / "whole")
    expected = whole()
    session = make(limited(first), tmp_path / "two")
    session()
    arguments = {"create_run_dir_afresh": False, "source_run_dir_tag": Path(session.run_dir).name}
    again = make(limited(12), tmp_path / "two", **arguments)
    found = again()
    assert (found.epochs_done, found.iterations) == (expected.epochs_done, expected.iterations)
    assert different_values(whole.network.state_dict(), again.network.state_dict()) == []
    assert different_values(whole.optimizer.state_dict(), again.optimizer.state_dict()) == []
    training = [
        {tag: curve for tag, curve in read_scalars(one.run_dir).items() if tag.startswith("training/")}
        for one in (whole, again)
    ]
    assert different_values(*training) == []
    assert different_values(dict(expected.averages), dict(found.averages)) == []


def test_a_number_of_iterations_below_those_that_are_done_validates_and_trains_nothing(tmp_path):
    session = TinySession(limited(9), tmp_path)
    session.register(StopAt(7))
    session()
    arguments = {"create_run_dir_afresh": False, "source_run_dir_tag": Path(session.run_dir).name}
    again = TinySession(limited(3), tmp_path, **arguments)
    summary = again()
    assert (summary.iterations, summary.stop_reason) == (7, "all 3 iterations are done")
    assert lines_of(again, "votes.jsonl")[-1]["iteration"] == 7


class OnlyDemo(TinySession):
    def init_datasets(self):
        return make_dataset(), self.validation

    validation = ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())


def test_without_a_validation_set_the_last_network_is_saved(tmp_path):
    session = OnlyDemo(limited(7), tmp_path)
    session()
    assert different_values(saved_network(session), session.network.state_dict()) == []


@pytest.mark.parametrize("checkpoints", [None, 1])
def test_without_a_validation_set_a_run_stopped_at_its_last_iteration_saves_that_network_when_resumed(
    tmp_path, checkpoints
):
    session = OnlyDemo(limited(7, checkpoint_every_n_iterations=checkpoints), tmp_path)
    session.register(StopAt(7))
    session()
    again = OnlyDemo.resume(tmp_path)
    assert again().iterations == 7
    assert different_values(saved_network(again), again.network.state_dict()) == []


class OwnLoader(TinySession):
    """Its training loader is an iterator without an end."""

    def init_dataloaders(self):
        training, validation = super().init_dataloaders()

        def endless():
            while True:
                yield from training

        return endless(), validation


def test_an_iterator_without_an_end_is_trained_for_the_number_of_iterations(tmp_path):
    summary = OwnLoader(limited(13), tmp_path)()
    assert (summary.iterations, summary.epochs_done) == (13, 0)


class EndsOnce(OwnLoader):
    def init_dataloaders(self):
        training, validation = TinySession.init_dataloaders(self)
        return (batch for batch in list(training)), validation


def test_an_iterator_that_ends_before_the_number_of_iterations_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no mini-batch in epoch 2"):
        EndsOnce(limited(13), tmp_path)()


def train_limited(index, path, make, config):
    session = make(config, path)
    summary = session()
    return session.network.state_dict(), summary.iterations, summary.stop_reason, dict(summary.averages)


@pytest.mark.parametrize("make", [TinySession, ValidatedWithin])
def test_several_processes_end_after_the_same_iteration_as_one(tmp_path, make):
    config = limited(7, mini_batch_size=8, mini_batch_parts=2, iterations_per_epoch=3) | {"data": SAMPLES}
    expected, *others = (
        *several.values_of(1, train_limited, tmp_path / "1", make, config),
        *several.values_of(2, train_limited, tmp_path / "2", make, config),
    )
    assert expected[1:3] == (7, "all 7 iterations are done")
    for other in others:
        assert different_values(expected[0], other[0]) == []
        assert other[1:] == expected[1:]


def test_epochs_of_iterations_continue_in_the_order_of_the_passes(tmp_path):
    whole, cut, found = TinySession(config_with(num_epochs=3), tmp_path), Rows(), Rows()
    whole.register(found)
    whole()
    session = TinySession(config_with(num_epochs=7, iterations_per_epoch=2), tmp_path)
    session.register(cut)
    summary = session()
    assert (summary.epochs_done, summary.iterations) == (7, 14)
    assert cut.names == found.names[:14]
    assert different_values(weights_after(tmp_path, 14), session.network.state_dict()) == []


PARTS_OF_WORKERS = {"mini_batch_parts": 2, "dataloader_num_workers": 1}
STOPS = [(iteration, options) for iteration in (2, 3, 5, 9) for options in ({}, PARTS_OF_WORKERS)]


@pytest.mark.parametrize(("iteration", "options"), in_suite(STOPS, (2, {}), (3, {}), (9, {}), (5, PARTS_OF_WORKERS)))
def test_epochs_of_iterations_resume_exactly(tmp_path, iteration, options):
    config = config_with(num_epochs=4, mini_batch_size=8, iterations_per_epoch=3, **options) | {"data": SAMPLES}
    whole = TinySession(config, tmp_path / "whole")
    expected = within_result_of(whole, whole())
    session = TinySession(config, tmp_path / "resumed")
    session.register(StopAt(iteration))
    session()
    again = TinySession.resume(tmp_path / "resumed")
    assert different_values(expected, within_result_of(again, again())) == []


def test_epochs_of_iterations_of_a_loader_of_the_user_are_not_used_with_a_warning(tmp_path, caplog):
    class Listed(TinySession):
        def init_dataloaders(self):
            training, validation = super().init_dataloaders()
            return list(training), validation

    assert Listed(config_with(num_epochs=1, iterations_per_epoch=3), tmp_path)().iterations == 3  # it is a list of them
    assert "iterations_per_epoch is 3, but init_dataloaders returned a list for training" in caplog.text
    caplog.clear()
    TinySession(config_with(num_epochs=1, iterations_per_epoch=3), tmp_path)()
    assert "init_dataloaders" not in caplog.text


def test_the_console_and_the_status_show_the_number_of_iterations(tmp_path, caplog):
    caplog.set_level("INFO", "torchbase")
    session = TinySession(limited(7), tmp_path)
    session()
    lines = caplog.text
    assert "at most 7 iterations and 2 epochs on cpu" in lines
    assert re.search(r"epoch 1, iteration 5/7\s+(\S+ s, best\s+)?training: loss ", lines)
    assert "epoch 2, iteration 7/7  valid: loss " in lines
    status = json.loads(Path(session.run_dir, "status.json").read_text())
    assert (status["max_iterations"], status["iterations"], status["epochs_done"]) == (7, 7, 1)


def test_a_finished_run_can_be_verified_by_a_replay(tmp_path):
    session = TinySession(limited(7), tmp_path)
    session()
    assert session.verify(replay=3).is_good


class OwnOrder(TinySession):
    """Its epochs have different lengths."""

    def init_order(self):
        return lambda epoch, generator: torch.randperm(18, generator=generator)[: 4 * epoch + 2]


def test_an_order_of_the_user_decides_on_the_epochs_of_a_run_of_iterations(tmp_path):
    summary = OwnOrder(limited(9), tmp_path)()  # epochs of 2, 3 and 4
    assert (summary.epochs_done, summary.iterations) == (3, 9)
    summary = OwnOrder(limited(6), tmp_path)()
    assert (summary.epochs_done, summary.iterations) == (2, 6)
    with pytest.raises(ConfigError, match="iterations_per_epoch is 3, but init_order decides"):
        OwnOrder(config_with(iterations_per_epoch=3), tmp_path)()


def test_a_shorter_last_mini_batch_of_each_pass_is_left_out_on_request(tmp_path):
    rows = Rows()
    session = TinySession(limited(9, iterations_per_epoch=3, drop_last=True), tmp_path)
    session.register(rows)
    assert session().epochs_done == 3
    assert [len(names) for names in rows.names] == [4] * 9
    assert len({name for names in rows.names[:4] for name in names}) == 16
