import pytest

from torchbase.errors import RunDirectoryError
from torchbase.run_directory.hashed_parts import PartOfState
from torchbase.run_directory.traces import (
    Step,
    TraceFile,
    at_common_iterations,
    describe_first_difference,
    read_trace,
)


def part(*each, names=("a", "b")):
    return PartOfState(f"bits of {each}", tuple(names), b"".join(one.to_bytes(4) for one in each))


def step(iteration, hook, event, network=(1, 2), **parts):
    return Step(iteration, hook, event, {**parts, "network": part(*network)})


def iteration_of(number, rows=(7, 8), **changed):
    """The steps of an iteration; ``changed`` has the network after an event."""
    rows = part(*rows, names=("x[0]", "x[1]"))
    events = ["run_forward", "run_backward", "run_optimizer_step"]
    return [
        step(number, "", "on_iteration_start", changed.get("before", (1, 2)), **{"mini-batch": rows}),
        *(step(number, "training_step", event, changed.get(event, (1, 2))) for event in events),
        step(number, "mine", "on_iteration_end", changed.get("on_iteration_end", (1, 2))),
    ]


def test_what_is_read_is_what_was_written(tmp_path):
    steps = [*iteration_of(3), *iteration_of(4)]
    file = TraceFile(tmp_path / "trace.jsonl")
    for one in steps:
        file.append(one)
    assert read_trace(tmp_path / "trace.jsonl") == steps
    with (tmp_path / "trace.jsonl").open("a") as opened:
        opened.write('{"iteration"')  # as a killed process leaves it
    assert read_trace(tmp_path / "trace.jsonl") == steps


def test_a_file_that_is_no_trace_is_refused(tmp_path):
    (tmp_path / "other.jsonl").write_text('{"iteration": 3}\n')
    with pytest.raises(RunDirectoryError, match=r"line 1 of .*other.jsonl isn't a step of a trace"):
        read_trace(tmp_path / "other.jsonl")
    with pytest.raises(RunDirectoryError, match="can't read"):
        read_trace(tmp_path / "missing.jsonl")


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (iteration_of(3), None),
        (iteration_of(3, rows=(7, 9)), "in iteration 3, the mini-batch is another one: mini-batch.x[1]"),
        (
            iteration_of(3, before=(1, 9)),
            "in iteration 3, the state differs before anything of it is computed: network.b",
        ),
        (
            iteration_of(3, run_forward=(9, 9), run_backward=(8, 8)),
            "in iteration 3, the forward pass (run_forward) makes a difference: network.a and 1 more",
        ),
        (
            iteration_of(3, run_optimizer_step=(1, 9)),
            "in iteration 3, the optimizer step (run_optimizer_step) makes a difference: network.b",
        ),
        (
            iteration_of(3, on_iteration_end=(1, 9)),
            "in iteration 3, on_iteration_end of the hook 'mine' makes a difference: network.b",
        ),
        (
            iteration_of(3)[:-1],
            "after the optimizer step (run_optimizer_step) in iteration 3, only one of both goes on",
        ),
        (
            [*iteration_of(3)[:-1], step(3, "yours", "on_iteration_end")],
            "in iteration 3, other hooks are called: on_iteration_end of the hook 'mine' in one, on_iteration_end of "
            "the hook 'yours' in the other",
        ),
    ],
)
def test_the_first_difference_is_described(other, text):
    assert describe_first_difference(iteration_of(3), other) == text


def test_common_iterations_are_compared():
    first, second = [*iteration_of(3), *iteration_of(4)], [*iteration_of(4), *iteration_of(5)]
    assert at_common_iterations(first, second) == (iteration_of(4), iteration_of(4))
    assert at_common_iterations(first, iteration_of(5)) == ([], [])
