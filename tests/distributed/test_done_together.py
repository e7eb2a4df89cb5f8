import errno

import in_turns
import pytest

from torchbase.distributed.done_together import do_together
from torchbase.errors import CheckpointError, NonFiniteError, ProcessError, RunDirectoryError


def outcomes_of(function, count=3):
    """What ``function(index)`` of each process returned or raised, as `do_together` says it."""

    def call(processes):
        try:
            return do_together(processes, lambda: function(processes.index), "a test")
        except Exception as error:
            return type(error), str(error), getattr(error, "errno", None)

    return in_turns.values_of(count, call)


def failing(process, error):
    def function(index):
        if index == process:
            raise error
        return index

    return function


def test_each_process_gets_the_results_of_all():
    assert outcomes_of(lambda index: index * 10) == [[0, 10, 20]] * 3


@pytest.mark.parametrize("kind", [CheckpointError, RunDirectoryError, NonFiniteError])
def test_an_error_of_one_process_is_raised_on_each_and_names_it(kind):
    first, second, third = outcomes_of(failing(1, kind("the reason")))
    assert second[:2] == (kind, "the reason")
    assert first == third == (kind, "process 1: the reason", None)


def test_an_error_of_the_disk_has_its_number_on_each_process():
    error = RunDirectoryError("full")
    error.errno = errno.ENOSPC
    assert [one[2] for one in outcomes_of(failing(2, error))] == [errno.ENOSPC] * 3


def test_any_other_error_is_said_by_its_name():
    first, second, _ = outcomes_of(failing(1, KeyError("x")))
    assert first[:2] == (ProcessError, "process 1: KeyError: 'x'")
    assert second[0] is KeyError


def test_of_several_errors_each_process_raises_its_own_and_the_others_the_first():
    def function(index):
        if index:
            raise RunDirectoryError(f"error {index}")

    assert [one[1] for one in outcomes_of(function)] == ["process 1: error 1", "error 1", "error 2"]
