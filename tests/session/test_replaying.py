"""What a session does if the environment variable of a replay is set; whole replays are in tests/command_line."""

import pytest
from tiny import TinySession, config_with

from torchbase import hookimpl
from torchbase.checkpoints.listing import list_checkpoints
from torchbase.errors import RunDirectoryError
from torchbase.hooks import JsonLines
from torchbase.run_directory.fingerprints import read_fingerprints
from torchbase.run_directory.replays import ORDERS_VARIABLE, ReplayOrders, write_orders


@pytest.fixture
def orders(tmp_path, monkeypatch):
    """Sets the environment variable for a run of one epoch; returns the orders."""
    session = TinySession(config_with(num_epochs=1), tmp_path / "runs", tag_postfix="mine")
    session()
    run = tmp_path / "runs" / session._run_directory.tag
    copy, records = tmp_path / "scratch" / run.name, tmp_path / "scratch" / "records"
    (copy / "states").mkdir(parents=True)
    records.mkdir()
    for file in (*run.glob("*.json"), *run.glob("states/*.json")):
        (copy / file.relative_to(run)).write_bytes(file.read_bytes())
    written = ReplayOrders(run, copy, records, (3, "iteration"))
    write_orders(tmp_path / "orders.json", written)
    monkeypatch.setenv(ORDERS_VARIABLE, str(tmp_path / "orders.json"))
    return written


class Backend:
    @hookimpl
    def log_scalars(self):
        raise AssertionError("a replay logs nothing")


def test_the_session_of_the_run_trains_a_copy_and_ends_the_program(orders, caplog):
    before = {path: path.stat().st_mtime_ns for path in orders.run.rglob("*")}
    session = TinySession(config_with(num_epochs=1), orders.run.parent)
    assert session.run_dir == str(orders.copy)
    assert f"This session trains the run {orders.run} again until iteration 3, in {orders.copy}, since" in caplog.text
    session.register(Backend())
    session.register(JsonLines())
    with pytest.raises(SystemExit) as ended:
        session()
    assert ended.value.code == 0
    assert read_fingerprints(orders.records)[0][-1].place == (3, "iteration")
    assert list_checkpoints(orders.copy / "states")
    assert not (orders.copy / "log.jsonl").exists()
    assert {path: path.stat().st_mtime_ns for path in orders.run.rglob("*")} == before


def test_a_session_of_another_config_or_class_trains_beside_it(orders):
    class Other(TinySession):
        pass

    for session in (
        TinySession(config_with(num_epochs=1, learning_rate=0.5), orders.run.parent),
        Other(config_with(num_epochs=1), orders.run.parent),
    ):
        assert session._run_directory.path.parent == orders.copy.parent
        assert session._run_directory.path != orders.copy
        assert session().epochs_done == 1  # the program goes on
    assert len(list(orders.run.parent.iterdir())) == 1


def test_another_session_that_needs_an_earlier_run_is_refused(orders):
    with pytest.raises(RunDirectoryError, match="This program can't be replayed: it opens the run"):
        TinySession(
            config_with(num_epochs=1, learning_rate=0.5),
            orders.run.parent,
            source_run_dir_tag=orders.run.name,
        )
