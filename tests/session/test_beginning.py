import logging
import os
import sys
import threading

import pytest
import several
from every_technique import PlainSession
from tiny import StopAt, TinySession, config_with

from torchbase import hookimpl
from torchbase.errors import ConfigError, RunDirectoryError, RunDirectoryLockedError
from torchbase.files.bitwise import different_values
from torchbase.run_directory.record import read_status


def named(parent, tag="my-run", kind=TinySession, **session):
    return kind.begin_or_resume(config_with(**session), parent, tag=tag)


def weights_of(session):
    return {name: value.clone() for name, value in session.network.state_dict().items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights after an uninterrupted run."""
    session = TinySession(config_with(), tmp_path_factory.mktemp("whole"))
    session()
    return weights_of(session)


def test_a_run_is_begun_under_its_name_and_gone_on_with(tmp_path, whole):
    session = named(tmp_path)
    assert session.run_dir == str(tmp_path / "my-run")
    session.register(StopAt(3))
    session()
    again = named(tmp_path)
    assert again().epochs_done == 2
    assert different_values(weights_of(again), whole) == []
    assert [path.name for path in tmp_path.iterdir()] == ["my-run"]


def test_without_a_folder_the_runs_are_in_that_of_all_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TinySession.begin_or_resume(config_with(), tag="a").run_dir == str(tmp_path / "runs" / "a")


def test_a_finished_run_says_so_and_trains_nothing_until_more_epochs_are_asked_for(tmp_path, whole, caplog):
    named(tmp_path)()
    caplog.set_level(logging.INFO, "torchbase")
    finished = named(tmp_path)
    finished()
    assert read_status(tmp_path / "my-run").iterations == 10
    assert "2 epochs are done. The run is finished. To train on, raise session.num_epochs." in caplog.text
    assert different_values(weights_of(finished), whole) == []
    caplog.clear()
    assert named(tmp_path, num_epochs=3)().epochs_done == 3
    assert "is finished" not in caplog.text


def test_a_config_of_another_experiment_is_refused_as_by_resuming(tmp_path):
    named(tmp_path)()
    with pytest.raises(ConfigError, match=r"session\.learning_rate"):
        named(tmp_path, learning_rate=0.2)
    with pytest.raises(ConfigError, match=r"session\.seed is 8"):
        named(tmp_path, seed=8)
    changed = TinySession.begin_or_resume(
        config_with(learning_rate=0.2), tmp_path, tag="my-run", allow_config_changes=True
    )
    assert changed().epochs_done == 2


def test_a_config_is_refused_even_if_the_run_has_no_checkpoint_yet(tmp_path):
    named(tmp_path)
    with pytest.raises(ConfigError, match=r"session\.learning_rate"):
        named(tmp_path, learning_rate=0.2)


class OtherSession(TinySession):
    pass


def test_a_run_of_another_session_class_is_refused_until_it_is_resumed_with_it(tmp_path):
    named(tmp_path).register(StopAt(3))
    message = r"was begun with the session class TinySession, of .*tiny_session\.py, and can't go on with OtherSession"
    with pytest.raises(RunDirectoryError, match=message):
        named(tmp_path, kind=OtherSession)
    session = OtherSession.resume(tmp_path, "my-run")
    session.register(StopAt(4))
    session()
    assert named(tmp_path, kind=OtherSession)().epochs_done == 2


def test_an_environment_that_cannot_be_read_does_not_stop_a_run(tmp_path, caplog):
    named(tmp_path)
    (tmp_path / "my-run" / "environment.json").write_text("[]")
    assert named(tmp_path)().epochs_done == 2
    assert "environment.json can't be read, so the session class of the run isn't checked" in caplog.text


REFUSED = {
    "a path": ({"tag": "a/b"}, RunDirectoryError, "can't be the name of a run directory"),
    "a postfix": ({"tag": "a", "tag_postfix": "b"}, RunDirectoryError, "tag_postfix='b' names a new run directory"),
    "a source": ({"tag": "a", "source_network": "last"}, RunDirectoryError, "source_network='last' chooses a network"),
    "another source": ({"tag": "a", "source_network": "new"}, RunDirectoryError, "has to be 'best' or 'last'"),
    "a run to resume": ({"tag": "a", "source_run_dir_tag": "b"}, TypeError, "source_run_dir_tag"),
    "no name": ({}, TypeError, "tag"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_arguments_that_contradict_the_name_are_refused_before_a_file_is_made(tmp_path, what):
    arguments, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        TinySession.begin_or_resume(config_with(), tmp_path / "runs", **arguments)
    assert not (tmp_path / "runs").exists()


def test_a_config_with_errors_is_refused_before_a_file_is_made(tmp_path):
    with pytest.raises(ConfigError, match="num_epochs"):
        named(tmp_path / "runs", num_epochs=0)
    assert not (tmp_path / "runs").exists()


def test_the_constructor_needs_a_name_for_it(tmp_path):
    with pytest.raises(
        RunDirectoryError, match="create_run_dir_afresh=None resumes an earlier run, and no run was nam"
    ):
        TinySession(config_with(), tmp_path, create_run_dir_afresh=None)


class WithArguments(TinySession):
    def __init__(self, config, factor, **arguments):
        super().__init__(config, **arguments)
        self.factor = factor


def test_the_arguments_of_a_subclass_are_passed_on(tmp_path):
    assert WithArguments.begin_or_resume(config_with(), tmp_path, tag="a", factor=3).factor == 3


# Killed at any moment of the beginning


def kill_while_beginning(index, parent, number):
    """Ends the process at the ``number``-th file or folder that is made or renamed."""
    left = [number]

    def count(event, arguments):
        if event in ("os.mkdir", "os.rename") and str(parent) in str(arguments[0]):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

    sys.addaudithook(count)
    return weights_of_whole(parent)


def weights_of_whole(parent):
    session = named(parent)
    session()
    return weights_of(session)


def test_a_run_that_is_killed_at_each_file_it_makes_is_begun_again_and_ends_the_same(tmp_path, whole):
    for number in range(12):
        parent = tmp_path / str(number)
        parent.mkdir()
        (ended,) = several.run(1, kill_while_beginning, parent, number)
        assert ended.exit_code == 9, ended
        assert different_values(weights_of_whole(parent), whole) == []


# At once


class Waits:
    """Trains until it may go on."""

    def __init__(self):
        self.trains, self.may_go_on = threading.Event(), threading.Event()

    @hookimpl
    def on_epoch_end(self):
        self.trains.set()
        self.may_go_on.wait()


def begin_while_another_trains(index, parent):
    with pytest.raises(RunDirectoryLockedError) as caught:
        named(parent)
    return str(caught.value)


def test_of_two_at_once_one_trains_and_the_other_says_who_does(tmp_path, whole):
    session, waits = named(tmp_path), Waits()
    session.register(waits)
    training = threading.Thread(target=session)
    training.start()
    try:
        waits.trains.wait()
        (message,) = several.values_of(1, begin_while_another_trains, tmp_path)
    finally:
        waits.may_go_on.set()
        training.join()
    assert (
        f"Another session is writing to the run directory {tmp_path / 'my-run'}: process {os.getpid()} on " in message
    )
    assert ", since 20" in message
    assert different_values(weights_of(session), whole) == []


def test_two_that_begin_at_the_same_moment_end_as_one(tmp_path, whole):
    first, second = named(tmp_path), named(tmp_path)
    assert first().epochs_done == 2
    assert second().epochs_done == 2
    assert different_values(weights_of(second), whole) == []
    assert read_status(tmp_path / "my-run").iterations == 10


def test_another_number_of_parts_that_was_chosen_meanwhile_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("torchbase.session.base.choose_parts", lambda *arguments: 2)  # before it was locked
    with pytest.raises(RunDirectoryError, match=r"has begun the run .*my-run meanwhile, in 1 parts .* in place of 2"):
        named(tmp_path)


# On several processes


def train_on_several(index, parent, stops):
    config = config_with(mini_batch_size=8, mini_batch_parts=4)
    config["network"] = {"architecture": "PlainNetwork", "dropout": 0.0}
    os.chdir(parent / str(index))
    session = PlainSession.begin_or_resume(config, tag="my-run")
    if stops:
        session.register(StopAt(2))
    session()
    return session._run.progress.iterations, weights_of(session), session.run_dir


def test_the_main_process_decides_for_all(tmp_path):
    for index in range(3):
        (tmp_path / str(index)).mkdir()
    stopped = several.values_of(3, train_on_several, tmp_path, True)
    assert [iterations for iterations, _, _ in stopped] == [2] * 3
    ended = several.values_of(2, train_on_several, tmp_path, False)
    assert [run_dir for _, _, run_dir in ended] == [str(tmp_path / "0" / "runs" / "my-run")] * 2
    (alone,) = several.values_of(1, train_on_several, tmp_path, False)
    assert different_values(ended[0][1], alone[1]) == []


def refused_on_several(index, parent):
    config = config_with()
    for tag, error in (("a/b", RunDirectoryError), ("other", RunDirectoryError)):
        with pytest.raises(error, match=r"can't be the name|isn't the directory of a run"):
            PlainSession.begin_or_resume(config, parent, tag=tag)


def test_what_is_refused_is_the_same_error_on_each_process(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").touch()
    several.values_of(2, refused_on_several, tmp_path)
