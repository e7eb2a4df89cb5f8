"""Forked processes communicate as those of torchrun do."""

import copy
import os
import pickle
import re
import signal
import threading
from datetime import timedelta

import pytest
import several
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.distributed import board, process_group
from torchbase.distributed.blocks import share_out
from torchbase.distributed.joining import join
from torchbase.distributed.processes import SingleProcess
from torchbase.distributed.tree_sum import TreeSum
from torchbase.errors import ProcessError, ProcessLostError
from torchbase.files.bitwise import different_values


@pytest.fixture(scope="module", params=["shared memory", "shared memory for values", "connections"], autouse=True)
def way(request):
    """How processes communicate on one machine, on one whose processors show writes in any order, and on several."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "connections":
            patch.setattr(board, "SHARES_MEMORY", False)
        elif request.param == "shared memory for values":
            patch.setattr(process_group, "SHOWS_WRITES_IN_ORDER", False)
        yield request.param


SHAPES = ((3, 5), (7,), (), (2, 2), (4, 3))


def test_a_process_alone_joins_nobody_and_imports_nothing():
    assert isinstance(join(), SingleProcess)


def gathered(index):
    processes = join()
    large = processes.gather(bytes([index]) * 10**5 * (index + 1))
    return (
        (processes.index, processes.count, processes.is_main),
        processes.gather({"index": index, "nan": [float(index), None]}),
        [len(one) for one in large],
        processes.tell(f"from {index}"),
        processes.gather(torch.arange(index))[-1].tolist(),
    )


@pytest.mark.parametrize("count", [2, 3])
def test_values_of_any_size_are_gathered_in_order(count):
    for index, (me, small, lengths, told, tensor) in enumerate(several.values_of(count, gathered)):
        assert me == (index, count, index == 0)
        assert small == [{"index": one, "nan": [float(one), None]} for one in range(count)]
        assert lengths == [10**5 * (one + 1) for one in range(count)]
        assert told == "from 0"
        assert tensor == list(range(count - 1))


def clocks(index):
    processes = join()
    seen = []
    for _ in range(3):
        processes.gather(None)
        seen.append(processes.now())
    return seen


def test_the_clock_is_the_same_on_each_process():
    first, second = several.values_of(2, clocks)
    assert first == second
    assert first == sorted(set(first))


def gradients_of(part, missing, sparse):
    generator = torch.Generator().manual_seed(part)
    tensors = [torch.randn(shape, generator=generator) for shape in SHAPES]
    tensors[1] = tensors[1].double()
    tensors[3] = -torch.zeros(2, 2)
    if (part, 4) in sparse:
        tensors[4] = tensors[4].to_sparse()
    return [None if (part, position) in missing else tensor for position, tensor in enumerate(tensors)]


def tree_of(parts, empty, missing, sparse):
    total = TreeSum()
    for part in parts:
        total.add([] if part in empty else gradients_of(part, missing, sparse))
    return total.total() or [None] * len(SHAPES)


def summed(index, number, empty, missing, sparse):
    """The sum over all processes. The parts ``empty`` have no samples."""
    processes = join()
    blocks = share_out(number, processes.count)
    own = tree_of(blocks[index].parts, empty, missing, sparse)
    like = [torch.zeros(shape, dtype=torch.float64 if one == 1 else torch.float32) for one, shape in enumerate(SHAPES)]
    levels = [block.level for block in blocks]
    values, together = processes.gather_and_reduce("x" * 10 ** (index + 2), [*map(copied, own)], like, levels)
    assert [len(value) for value in values] == [10 ** (one + 2) for one in range(processes.count)]
    alone = processes.reduce(own, like, levels)
    assert different_values(densely(together), densely(alone)) == []
    return alone


def copied(tensor):
    return None if tensor is None else tensor.clone()


def densely(tensors):
    return [one.to_dense() if one is not None and one.is_sparse else one for one in tensors]


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_the_sum_has_the_bits_of_the_tree_in_one_process(data):
    number = data.draw(st.integers(2, 9))
    processes = data.draw(st.integers(2, min(number, 5)))
    empty = data.draw(st.sets(st.integers(0, number - 1), max_size=number - 1))
    places = st.sets(st.tuples(st.integers(0, number - 1), st.integers(0, len(SHAPES) - 1)), max_size=12)
    missing, sparse = data.draw(places), data.draw(places)
    expected = tree_of(range(number), empty, missing, sparse)
    for total in several.values_of(processes, summed, number, empty, missing, sparse):
        assert [one is None for one in total] == [one is None for one in expected]
        assert different_values(densely(total), densely(expected)) == []


def summed_one_after_the_other(index):
    processes = join()
    sums = []
    for size, dtype in [(10, torch.float32), (1000, torch.float64), (7, torch.float16), (1000, torch.float32)]:
        like = [
            torch.empty(size, 3, 2, 2, dtype=dtype).to(memory_format=torch.channels_last),
            torch.empty(5, dtype=dtype),
        ]
        own = [torch.full_like(like[0], size + index), None if index else torch.ones(5, dtype=dtype)]
        contiguous = [None if one is None else one.contiguous() for one in own]
        sums += [processes.reduce(own, like), processes.gather_and_reduce(index, contiguous, like)[1]]
    none = processes.reduce([None if index else torch.ones_like(like[0]), None], like)
    return sums, [one.is_contiguous(memory_format=torch.channels_last) for one, _ in [*sums, none]]


def test_a_sum_is_in_memory_of_its_own_and_has_the_strides_of_its_parameter():
    for sums, have_strides in several.values_of(2, summed_one_after_the_other):
        for (one, other), size in zip(sums, [10, 10, 1000, 1000, 7, 7, 1000, 1000], strict=True):
            assert one.unique().tolist() == [2 * size + 1]
            assert other.tolist() == [1] * 5
        assert all(have_strides)


def differing(index):
    join().agree({"rows": 10 + index}, "the training set")


def test_a_value_that_differs_is_an_error_on_each_process():
    for ended in several.run(2, differing):
        assert "ProcessesDifferError: the training set differs between processes: {'rows': 10}" in ended.error
        assert "{'rows': 11} on process 1" in ended.error


def elsewhere(index):
    join().gather(0, "the end of a run" if index else "an iteration")


def test_processes_at_different_places_are_an_error_that_names_both():
    for ended in several.run(2, elsewhere):
        assert "process 0 communicates for an iteration, and process 1 for the end of a run" in ended.error


def before_an_iteration(index, alone):
    processes, gradient = join(), torch.ones(100_000)
    if index == alone:
        processes.gather(0, "a look of one process")
    processes.gather_and_reduce(0, [gradient], [gradient], purpose="an iteration")


@pytest.mark.parametrize("alone", [0, 1])
def test_two_processes_do_not_wait_if_one_communicates_right_before_the_gradients(alone):
    for ended in several.run(2, before_an_iteration, alone, seconds=60):
        assert "ProcessError: The processes are at different places of the program" in ended.error
        assert "for a look of one process" in ended.error
        assert "for an iteration" in ended.error


def dying(index):
    processes = join()
    processes.gather(0)
    if index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    processes.gather(1, "the next iteration")


def test_the_death_of_a_process_is_an_error_on_the_others():
    first, second, third = several.run(3, dying, seconds=60)
    assert second.exit_code == -signal.SIGKILL
    for survivor in (first, third):
        assert "ProcessLostError: " in survivor.error
        assert "since one of them has ended. It was communicating for the next iteration" in survivor.error


def gathered_in_two_threads(index):
    processes = join()
    other = processes.for_another_thread()
    found = []
    thread = threading.Thread(target=lambda: found.extend(other.gather(("thread", n, index)) for n in range(200)))
    thread.start()
    in_main = [processes.gather(("main", n, index)) for n in range(200)]
    thread.join()
    return in_main, found, (other.index, other.count, other.members == processes.members)


def test_another_thread_has_connections_of_its_own():
    for index, (in_main, in_thread, me) in enumerate(several.values_of(2, gathered_in_two_threads)):
        assert in_main == [[("main", n, 0), ("main", n, 1)] for n in range(200)]
        assert in_thread == [[("thread", n, 0), ("thread", n, 1)] for n in range(200)]
        assert me == (index, 2, True)


def waits_in_thread(index):
    from torchbase.distributed.process_group import ProcessGroup

    processes = join()
    other = ProcessGroup(time_limit=timedelta(seconds=1)).for_another_thread()
    if index == 1:
        processes.gather(None)
        return None  # it ends only when the others have
    errors = []

    def wait():
        try:
            other.gather(None, "the files of a checkpoint")
        except ProcessLostError as error:
            errors.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    processes.gather(None)
    return errors


def test_a_thread_waits_for_a_limited_time_and_the_other_connections_stay():
    (message,) = several.values_of(2, waits_in_thread)[0]
    assert "one of them doesn't answer. It was communicating for the files of a checkpoint" in message


def lengths(index, method):
    processes, row = join(), torch.ones(1000 + index)
    getattr(processes, method)(*([row],) * 2 if method == "reduce" else (row,))


@pytest.mark.parametrize("method", ["reduce", "gather_tensor"])
def test_tensors_of_different_lengths_are_an_error_on_each_process(way, method):
    if way != "shared memory":
        pytest.skip("torch ends one of the processes")
    for ended in several.run(2, lengths, method, seconds=60):
        assert "ProcessError: The processes are at different places" in ended.error
        assert re.search("process 0 communicates for bytes .* and process 1 for bytes", ended.error)


def interrupt(*_):
    raise InterruptedError


def is_interrupted(index, seconds):
    processes = join()
    received = []
    signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(10_000):
            if number == 50:
                signal.setitimer(signal.ITIMER_REAL, seconds[index])
            tensors = processes.gather_tensor(torch.tensor([number, index]))
            received.append((tensors.tolist(), processes.gather((number, index))))
    except (InterruptedError, ProcessError):  # as a program that goes on
        with pytest.raises(ProcessError):
            processes.gather("later", "a later value")
    signal.setitimer(signal.ITIMER_REAL, 0)
    return received


@pytest.mark.parametrize("seconds", [(1e-5, 0), (0, 3e-4), (2e-3, 2e-3)])
def test_a_program_that_goes_on_after_an_exception_within_an_exchange_has_an_error_on_each_process(way, seconds):
    if way == "connections":
        pytest.skip("torch raises only when its exchange is done")
    for received in several.values_of(2, is_interrupted, seconds, seconds=60):
        for number, both in enumerate(received):
            assert both == ([[number, 0], [number, 1]], [(number, 0), (number, 1)])


def leaves(index):
    processes = join()
    before = processes.gather_tensor(torch.ones(3)).sum()
    if index == 1:
        processes.leave()
        return signal.pause()
    with pytest.raises(ProcessLostError, match="has lost the others, since one of them has ended"):
        processes.gather_tensor(before.expand(3))
    return True


def test_a_process_that_leaves_and_goes_on_is_an_error_on_the_others(way):
    if way == "connections":
        pytest.skip("a process leaves a group of torch when it is destroyed")

    def kill_the_second(processes):
        processes[0].join()
        processes[1].kill()

    assert several.run(2, leaves, killed=kill_the_second, seconds=60)[0].value is True


def copies(index):
    processes = join()
    copied = pickle.loads(pickle.dumps(processes))
    assert (copied.index, copied.count, copied.is_main) == (index, 2, index == 0)
    with pytest.raises(ProcessLostError, match="can't communicate"):
        copied.gather(0)
    assert copy.deepcopy({"hook": processes})["hook"] is processes
    return processes.gather(index)


def test_a_copy_in_another_process_knows_who_it_is_and_communicates_with_nobody():
    assert several.values_of(2, copies) == [[0, 1]] * 2
