import logging
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from torchbase.errors import NonFiniteError, RunDirectoryError
from torchbase.files.background_writes import BackgroundWrites
from torchbase.files.durable import write_json

SECONDS_AT_MOST = 60.0  # until what has to happen counts as missing, on a machine that has much else to do


def fail(error):
    raise error


def test_writes_run_one_after_another_in_order():
    writes, seen = BackgroundWrites(), []

    def write(number):
        seen.append(("begins", number))
        time.sleep(0.02 / (number + 1))  # each write would overtake the write before it
        seen.append(("ends", number))

    for number in range(5):
        writes.submit(f"number {number}", partial(write, number))
    writes.wait()
    assert seen == [(what, number) for number in range(5) for what in ("begins", "ends")]


def test_at_most_one_write_of_a_name_is_in_flight_and_other_names_do_not_wait():
    writes, may_end, done = BackgroundWrites(), threading.Event(), []

    def slow():
        may_end.wait(SECONDS_AT_MOST)
        done.append("first")

    writes.submit("network", slow)
    writes.submit("checkpoint", lambda: done.append("other"))
    assert done == []
    submits_again = threading.Thread(target=writes.submit, args=("network", lambda: done.append("second")))
    submits_again.start()
    submits_again.join(0.05)
    assert submits_again.is_alive()
    may_end.set()
    submits_again.join(SECONDS_AT_MOST)
    writes.wait()
    assert done == ["first", "other", "second"]


def test_waiting_for_a_name_does_not_wait_for_later_writes(tmp_path):
    writes, may_end = BackgroundWrites(), threading.Event()
    writes.submit("first", lambda: (time.sleep(0.02), write_json(tmp_path / "first.json", 1)))
    writes.submit("second", lambda: (may_end.wait(SECONDS_AT_MOST), write_json(tmp_path / "second.json", 2)))
    writes.wait("first")
    assert [path.name for path in tmp_path.iterdir()] == ["first.json"]
    may_end.set()
    writes.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.json", "second.json"]


def test_waiting_without_a_write_returns_at_once():
    writes = BackgroundWrites()
    writes.check()
    writes.wait()
    writes.wait("checkpoint")


CALLS = {
    "check": lambda writes: writes.check(),
    "wait": lambda writes: writes.wait(),
    "wait for it": lambda writes: writes.wait("network"),
    "wait for another": lambda writes: writes.wait("checkpoint"),
    "submit it": lambda writes: writes.submit("network", int),
    "submit another": lambda writes: writes.submit("checkpoint", int),
}


@pytest.mark.parametrize("error", [RunDirectoryError("the disk is full"), KeyError("name"), SystemExit(3)])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_error_is_raised_once_by_the_next_call(call, error):
    writes = BackgroundWrites()
    writes.submit("network", partial(fail, error))
    writes.join()
    with pytest.raises(type(error)) as caught:
        call(writes)
    assert caught.value is error
    call(writes)
    writes.wait()


def test_nothing_is_written_after_a_failed_write_until_its_error_was_raised(tmp_path):
    writes, may_fail = BackgroundWrites(), threading.Event()
    path = tmp_path / "missing" / "network.json"
    writes.submit("network", lambda: (may_fail.wait(SECONDS_AT_MOST), write_json(path, 1)))
    writes.submit("checkpoint", partial(write_json, tmp_path / "checkpoint.json", 2))
    writes.submit("third", partial(fail, KeyError("never raised")))
    may_fail.set()
    writes.join()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunDirectoryError, match=r"network\.json"):
        writes.submit("checkpoint", partial(write_json, tmp_path / "refused.json", 3))
    writes.submit("checkpoint", partial(write_json, tmp_path / "later.json", 4))
    writes.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["later.json"]


def test_a_disk_error_can_be_logged_as_a_warning_and_later_writes_run(tmp_path, caplog):
    writes = BackgroundWrites("warn")
    writes.submit("network", partial(write_json, tmp_path / "missing" / "network.json", 1))
    with caplog.at_level(logging.WARNING, "torchbase"):
        writes.wait()
        writes.wait()
    (record,) = caplog.records
    assert record.message.startswith("The training continues, and earlier files stay: can't write")
    assert str(tmp_path / "missing" / "network.json") in record.message
    writes.submit("network", partial(write_json, tmp_path / "network.json", 2))
    writes.wait()
    assert (tmp_path / "network.json").exists()


@pytest.mark.parametrize("error", [NonFiniteError("NaN"), OSError("not explained"), KeyError("name")])
def test_any_other_error_is_raised_even_with_warnings(error, caplog):
    writes = BackgroundWrites("warn")
    writes.submit("network", partial(fail, error))
    with pytest.raises(type(error)):
        writes.wait()
    assert caplog.text == ""


def test_join_raises_nothing_and_a_later_check_raises_the_error():
    writes = BackgroundWrites()
    writes.submit("network", partial(fail, KeyError("name")))
    writes.join("network")
    writes.join()
    with pytest.raises(KeyError):
        writes.check()


ENDS_EARLY = """
import threading, time
from torchbase.files.background_writes import BackgroundWrites

has_begun = threading.Event()
writes = BackgroundWrites()
writes.submit("slow", lambda: (has_begun.set(), time.sleep(600)))
writes.submit("after it", lambda: print("written"))
assert has_begun.wait()
print("ends", flush=True)
"""


def test_a_program_that_ends_does_not_wait_for_running_writes():
    command = [sys.executable, "-c", ENDS_EARLY]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "ends\n"


def check_until(writes, done):
    while not done:
        writes.check()


def test_a_write_after_a_failed_write_never_runs():
    for _ in range(50):
        writes, may_fail, done = BackgroundWrites(), threading.Event(), []

        def fail_later(may_fail=may_fail):
            may_fail.wait(SECONDS_AT_MOST)
            raise RunDirectoryError("the disk is full")

        writes.submit("network", fail_later)
        writes.submit("checkpoint", partial(done.append, "checkpoint"))
        may_fail.set()
        with pytest.raises(RunDirectoryError):
            check_until(writes, done)
        writes.join()
        assert done == []


def test_writes_that_an_error_left_are_retried_in_order_before_the_next_write(caplog):
    writes, done, is_full, may_fail = BackgroundWrites("warn"), [], [True], threading.Event()

    def write(name):
        if is_full:
            may_fail.wait(SECONDS_AT_MOST)
            raise RunDirectoryError("the disk is full")
        done.append(name)

    for name in ("network", "checkpoint"):
        writes.submit(name, partial(write, name))
    may_fail.set()
    writes.join()
    writes.check()
    is_full.clear()
    writes.submit("another", partial(write, "another"))
    writes.wait("network")
    assert done[0] == "network"
    writes.wait()
    assert done == ["network", "checkpoint", "another"]
    assert caplog.text.count("the disk is full") == 1


def test_finish_retries_the_writes_that_an_error_left():
    writes, done, is_full = BackgroundWrites("warn"), [], [True]

    def write():
        if is_full:
            is_full.clear()
            raise RunDirectoryError("the disk is full")
        done.append("written")

    writes.submit("checkpoint", write)
    writes.finish()
    assert done == ["written"]
    writes.finish()
    assert done == ["written"]


@pytest.mark.parametrize("is_writing", [True, False])
def test_a_function_is_called_once_no_write_is_running(is_writing):
    writes, may_end, done = BackgroundWrites(), threading.Event(), []
    if is_writing:
        writes.submit("checkpoint", lambda: (may_end.wait(SECONDS_AT_MOST), done.append("written")))
    writes.call_when_written(partial(done.append, "afterwards"))
    assert done == ([] if is_writing else ["afterwards"])
    may_end.set()
    deadline = time.monotonic() + SECONDS_AT_MOST
    while "afterwards" not in done and time.monotonic() < deadline:
        time.sleep(0.001)
    assert done == (["written"] if is_writing else []) + ["afterwards"]


def test_a_failed_write_is_retried_on_request_once_its_error_was_checked():
    writes, seen, errors = BackgroundWrites("warn"), [], [RunDirectoryError("full")]

    def network():
        if errors:
            raise errors.pop()
        seen.append("network")

    writes.submit("network", network)
    writes.join()
    writes.retry()
    writes.join()
    assert seen == []
    writes.check()
    writes.retry()
    writes.wait()
    assert seen == ["network"]
    writes.retry()
    writes.wait()
    assert seen == ["network"]


def test_another_thread_waits_for_the_writes_so_far_and_has_their_error():
    writes, may_end, seen = BackgroundWrites(), threading.Event(), []
    writes.until_now()()  # there are none
    writes.submit("first", lambda: (may_end.wait(SECONDS_AT_MOST), seen.append("first")))
    first = writes.until_now()
    writes.submit("second", partial(fail, RunDirectoryError("full")))
    second = writes.until_now()
    may_end.set()
    first()
    assert seen == ["first"]
    with pytest.raises(RunDirectoryError, match="full"):
        second()
    with pytest.raises(RunDirectoryError, match="full"):
        writes.wait()
