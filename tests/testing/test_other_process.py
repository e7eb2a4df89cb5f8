import functools
import sys

import hooks_to_check
import pytest
import torch

from torchbase.testing.other_process import ProcessResult, call_in_process, kill_this_process


def test_a_killed_process_is_recognized():
    assert call_in_process(kill_this_process) == ProcessResult(was_killed=True, could_start=True, message="")


def test_a_local_function_can_not_be_sent():
    result = call_in_process(lambda: None)
    assert (result.was_killed, result.could_start) == (False, False)
    assert "<lambda>" in result.message


def test_a_module_that_the_process_can_not_import_is_reported(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not path.endswith("tests")])
    result = call_in_process(hooks_to_check.GradientNorms)
    assert result == ProcessResult(was_killed=False, could_start=False, message="No module named 'hooks_to_check'")


def test_the_process_has_as_many_threads_and_an_error_is_no_kill(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    code = "import torch; raise RuntimeError(f'{torch.get_num_threads()} threads')"
    result = call_in_process(functools.partial(exec, code))
    assert (result.was_killed, result.could_start) == (False, True)
    assert result.message.endswith("RuntimeError: 3 threads")


@pytest.fixture(autouse=True)
def _nothing_is_printed(capfd):
    yield
    assert capfd.readouterr() == ("", "")
