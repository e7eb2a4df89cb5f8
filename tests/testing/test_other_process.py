import functools
import sys

import hooks_to_check
import pytest
import torch

from torchbase.testing.other_process import Ended, call_in_a_process, kill_this_process


def test_a_process_is_killed_and_that_is_seen():
    assert call_in_a_process(kill_this_process) == Ended(was_killed=True, could_begin=True, said="")


def test_what_is_local_cannot_be_sent():
    ended = call_in_a_process(lambda: None)
    assert (ended.was_killed, ended.could_begin) == (False, False)
    assert "<lambda>" in ended.said


def test_what_the_process_cannot_import_is_told(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not path.endswith("tests")])
    ended = call_in_a_process(hooks_to_check.GradientNorms)
    assert ended == Ended(was_killed=False, could_begin=False, said="No module named 'hooks_to_check'")


def test_the_process_has_as_many_threads_and_an_error_in_it_is_no_kill(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    code = "import torch; raise RuntimeError(f'{torch.get_num_threads()} threads')"
    ended = call_in_a_process(functools.partial(exec, code))
    assert (ended.was_killed, ended.could_begin) == (False, True)
    assert ended.said.endswith("RuntimeError: 3 threads")


@pytest.fixture(autouse=True)
def _nothing_is_left(capfd):
    yield
    assert capfd.readouterr() == ("", "")
