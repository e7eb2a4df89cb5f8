import logging

import pytest
from tiny import CONFIG, TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.engine.logging_errors import LoggingErrors
from torchbase.hooks import LogValues


class DirectBackend:
    """A backend that implements an event directly, without `LoggingBackend`."""

    @hookimpl
    def log_scalars(self, scalars, step):
        raise ConnectionError("gone")


def test_a_session_continues_by_default_and_warns_once_per_backend(tmp_path, caplog):
    session = TinySession(CONFIG, tmp_path)
    session.register(DirectBackend())
    session.register(DirectBackend(), "other")
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert session().epochs_done == 2
    assert [message.split(" can't record ")[0] for message in caplog.messages] == ["direct_backend", "other"]
    undisturbed = TinySession(CONFIG, tmp_path)
    assert session._run.training.averages == {**undisturbed().averages}["training"]


def test_a_session_ends_with_the_error_if_the_policy_is_raise(tmp_path):
    session = TinySession(config_with(on_logging_error="raise"), tmp_path)
    session.register(DirectBackend())
    with pytest.raises(ConnectionError, match="gone") as caught:
        session()
    assert "in the hook 'direct_backend', at log_scalars" in caught.value.__notes__


def test_an_engine_ends_by_default_and_continues_if_the_policy_is_warn(caplog):
    def run_with(**policy):
        run = Run(training=Phase("training", range(3), is_training=True), max_epochs=1)
        Engine(lambda run, phase, batch: run.log("v", 1.0), [LogValues(), DirectBackend()], **policy).run(run)
        return run.epochs_done

    with pytest.raises(ConnectionError):
        run_with()
    assert caplog.messages == []
    assert run_with(on_logging_error="warn") == 1
    assert len(caplog.messages) == 1


def test_the_next_run_warns_again(caplog):
    errors = LoggingErrors("warn")
    for _ in range(2):
        errors.warn_once("mine", "mine can't write", ValueError("no"))
    errors.forget()
    errors.warn_once("mine", "mine can't write", ValueError("no"))
    assert len(caplog.messages) == 2
