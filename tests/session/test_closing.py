import time
from pathlib import Path

import pytest
import several
import torch
from tiny import CONFIG, StopAt, TinySession, config_with

from torchbase import hookimpl
from torchbase import hooks as standard
from torchbase.errors import HookError, RunDirectoryError, RunDirectoryLockedError


def opened_again(session):
    path = Path(session.run_dir)
    return TinySession(CONFIG, path.parent, create_run_dir_afresh=False, source_run_dir_tag=path.name)


def weights_of(session):
    return session.network.state_dict()


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("use", [lambda session: None, lambda session: session.network, lambda session: session._run])
def test_closing_a_session_that_was_not_called_removes_its_directory(tmp_path, use):
    with TinySession(CONFIG, tmp_path) as session:
        assert Path(session.run_dir).is_dir()
        use(session)
    assert list(tmp_path.iterdir()) == []
    session.close()


@pytest.mark.parametrize(
    "slip", [lambda one: one.register(object()), lambda one: one.register(StopAt), lambda one: one.unregister("consol")]
)
def test_a_slip_in_the_hooks_leaves_no_directory(tmp_path, slip):
    session = TinySession(CONFIG, tmp_path)
    with pytest.raises(HookError):
        slip(session)
    assert list(tmp_path.iterdir()) == []


def test_a_session_whose_directory_was_removed_makes_it_again_when_it_is_called(tmp_path):
    whole = TinySession(CONFIG, tmp_path)
    whole()
    session = TinySession(CONFIG, tmp_path)
    files = {path.name for path in Path(session.run_dir).rglob("*")} - {".holder.json"}  # while the session is open
    with pytest.raises(HookError):
        session.register(StopAt)
    session.close()
    session.register(StopAt(3))
    assert not Path(session.run_dir).exists()
    assert session().stop_reason == "for the test"
    assert files <= {path.name for path in Path(session.run_dir).rglob("*")}
    with opened_again(session) as resumed:
        resumed()
    assert are_equal(weights_of(resumed), weights_of(whole))


def test_a_directory_in_which_something_was_written_stays(tmp_path):
    with TinySession(CONFIG, tmp_path) as session:
        Path(session.run_dir, "notes.txt").write_text("mine")
        with pytest.raises(HookError):
            session.register(object())
    assert Path(session.run_dir, "notes.txt").read_text() == "mine"
    opened_again(session)()


def test_closing_keeps_what_was_trained_even_without_a_checkpoint_and_a_network(tmp_path):
    with TinySession(CONFIG, tmp_path) as session:
        for name in ("checkpoint", "best_validation", "run_record", "tensorboard", "charts"):
            session.unregister(name)
        session()
        with pytest.raises(HookError):
            session.register(object())
    assert Path(session.run_dir).is_dir()


def test_a_session_that_opened_an_earlier_run_never_removes_it(tmp_path):
    first = TinySession(CONFIG, tmp_path)
    first()
    with opened_again(first) as second, pytest.raises(HookError):
        second.register(object())
    assert opened_again(first)().epochs_done == 2


def test_a_second_session_of_the_process_is_sent_to_close(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    Path(session.run_dir, "notes.txt").touch()
    with pytest.raises(RunDirectoryLockedError, match=r"Another session of this process .* call the close\(\)"):
        opened_again(session)
    session.close()
    assert opened_again(session)().epochs_done == 2


def test_a_session_cannot_be_closed_while_it_trains(tmp_path):
    class Closes:
        @hookimpl
        def on_epoch_start(self):
            with pytest.raises(RunDirectoryError, match="can't be closed while it trains"):
                session.close()

    session = TinySession(CONFIG, tmp_path)
    session.register(Closes())
    assert session().epochs_done == 2
    session.close()


def mended(index, parent):
    session = TinySession(config_with(mini_batch_size=9), parent)
    with pytest.raises(HookError, match="is already registered"):
        session.register(standard.Metrics())  # removes the directory
    session()
    session.processes.tell(None, "the end of the test")
    return sorted(path.name for path in Path(session.run_dir).rglob("*.json"))


def test_several_processes_train_after_a_slip_that_one_has_mended(tmp_path):
    first, second = several.values_of(2, mended, tmp_path)
    assert first == second
    assert {"config.json", "environment.json", "seeds.json"} <= set(first)


def wait_for(path):
    """Waits until a path is there, or for half a second."""
    for _ in range(25):
        if path.exists():
            return
        time.sleep(0.02)


class WritesLate:
    """Ends the set-up of the second process after a slip of the main process, if nothing makes that one wait."""

    @hookimpl
    def on_setup_start(self, run_directory, processes):
        if not processes.is_main:
            wait_for(run_directory.path.parent / "slip")
            run_directory.file("process-1/notes.txt").write_text("mine")


class WritesLateSession(TinySession):
    def default_hooks(self):
        return [*super().default_hooks(), WritesLate()]


def slipped_on_main(index, parent):
    session = WritesLateSession(config_with(mini_batch_size=9), parent)
    if index == 0:
        with pytest.raises(HookError, match="is already registered"):
            session.register(standard.Metrics())  # removes the directory
        (parent / "slip").touch()
        wait_for(Path(session.run_dir))
    return session().epochs_done


def test_a_slip_of_the_main_process_waits_for_the_setup_of_the_others(tmp_path):
    assert several.values_of(2, slipped_on_main, tmp_path) == [2, 2]
