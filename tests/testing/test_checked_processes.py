import pytest
import several
import torch

from torchbase import hookimpl
from torchbase.distributed.joining import join
from torchbase.distributed.processes import SingleProcess
from torchbase.testing import TinySession, tiny_config
from torchbase.testing.checked_processes import (
    CheckedProcesses,
    DifferentPlacesError,
    Place,
    with_checked_processes,
)
from torchbase.testing.hook_frames import HookFrames

ONES = [torch.ones(3)]


class Communicates:
    @hookimpl
    def on_epoch_end(self, run):
        return run()


def use(index):
    processes = CheckedProcesses(join(), HookFrames(Communicates()))
    tensor = torch.full((2,), float(index))
    processes.tell_tensors([tensor])
    values, sums = processes.gather_and_reduce(index, [torch.ones(3)], ONES)
    processes.agree("same", "a text")
    return (
        (processes.index, processes.count, processes.is_main),
        processes.gather(index),
        processes.tell(f"from {index}"),
        [one.tolist() for one in processes.reduce([torch.ones(3)], ONES)],
        (values, [one.tolist() for one in sums], tensor.tolist()),
        processes.now(),
    )


def test_processes_that_are_at_the_same_place_communicate():
    (first, *same), (second, *others) = several.values_of(2, use)
    assert (first, second) == ((0, 2, True), (1, 2, False))
    assert same == others
    assert same[:4] == [[0, 1], "from 0", [[2.0] * 3], ([0, 1], [[2.0] * 3], [0.0, 0.0])]


def gather_in_hook(processes, hook):
    hook.on_epoch_end(lambda: processes.gather(1))


def gather(processes, hook):
    processes.gather(1)


def gather_elsewhere(processes, hook):
    processes.gather(1, "the shuffling")


def reduce(processes, hook):
    processes.reduce([torch.ones(10**5)], [torch.ones(10**5)])


def reduce_with_value(processes, hook):
    processes.gather_and_reduce(1, [torch.ones(3)], ONES)


def tell_tensors(processes, hook):
    processes.tell_tensors([torch.ones(2)])


PLACES = {
    gather_in_hook: Place("gather or tell", "a value", "on_epoch_end"),
    gather: Place("gather or tell", "a value", None),
    gather_elsewhere: Place("gather or tell", "the shuffling", None),
    reduce: Place("reduce", "a sum of tensors", None),
    reduce_with_value: Place("gather_and_reduce", "a value and a sum", None),
    tell_tensors: Place("tell_tensors", "tensors of process 0", None),
}


def do_all(index):
    """Lets the two processes be at each pair of places. Such an error leaves them together."""
    hook = Communicates()
    processes = CheckedProcesses(join(), HookFrames(hook))
    found = {}
    for first in PLACES:
        for second in PLACES:
            try:
                (first, second)[index](processes, hook)
            except DifferentPlacesError as error:
                found[first.__name__, second.__name__] = error.places, str(error)
    return found


def test_different_places_are_an_error_on_each_process_at_once():
    for found in several.values_of(2, do_all):
        assert {pair: places for pair, (places, _) in found.items()} == {
            (first.__name__, second.__name__): (PLACES[first], PLACES[second])
            for first in PLACES
            for second in PLACES
            if first is not second
        }
        assert found["gather_in_hook", "tell_tensors"][1] == (
            "process 0 calls gather or tell for a value, in on_epoch_end of the hook; process 1 calls tell_tensors for "
            "tensors of process 0, outside of the hook"
        )


def kinds(index, parent):
    kind = with_checked_processes(TinySession, HookFrames(Communicates()))
    session = kind(tiny_config(), parent)
    return kind.__name__, type(session.processes).__name__


@pytest.mark.parametrize(("count", "expected"), [(1, SingleProcess), (2, CheckedProcesses)])
def test_a_session_communicates_through_them(tmp_path, count, expected):
    assert several.values_of(count, kinds, tmp_path) == [("TinySession", expected.__name__)] * count
