import json
from pathlib import Path

import pytest
from every_technique import check_resumes_exactly, session_with, training_differences

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.errors import HookError
from torchbase.hooks import Profile


def traces_of(run_dir):
    """Returns the number of calls of each operation, by the name of the trace."""
    counted = {}
    for file in sorted(Path(run_dir, "profile").glob("*.json")):
        names = [event.get("name", "") for event in json.loads(file.read_text())["traceEvents"]]
        counted[file.stem] = {name: names.count(name) for name in set(names)}
    return counted


def test_only_the_selected_iterations_are_profiled(tmp_path):
    session = session_with(tmp_path, Profile(range(2, 5)))
    session()
    ((name, operations),) = traces_of(session.run_dir).items()
    assert name == "iterations-0000000002-to-0000000004"
    assert operations["autograd::engine::evaluate_function: AddmmBackward0"] == 3 * 2  # two linear layers
    table = Path(session.run_dir, "profile", f"{name}.txt").read_text(encoding="utf-8")
    assert "aten::addmm" in table
    plain = session_with(tmp_path)
    plain()
    assert training_differences(session, plain) == []


def test_validation_is_profiled_and_the_end_of_the_run_stops_the_profiler(tmp_path):
    session = session_with(tmp_path, Profile(range(5, 100), record_shapes=True))
    session()
    ((name, operations),) = traces_of(session.run_dir).items()
    assert name == "iterations-0000000005-to-0000000010"
    assert operations["aten::addmm"] > 2 * operations["autograd::engine::evaluate_function: AddmmBackward0"] / 2
    assert operations["autograd::engine::evaluate_function: AddmmBackward0"] == 6 * 2


def test_a_resumed_run_continues_exactly_and_profiles_the_remaining_iterations(tmp_path):
    check_resumes_exactly(tmp_path, lambda: [Profile(range(4, 10))], stops=(2, 8))
    (stopped,) = (tmp_path / "stopped").iterdir()
    assert list(traces_of(stopped)) == [
        "iterations-0000000004-to-0000000008",
        "iterations-0000000009-to-0000000009",
    ]


def test_an_error_stops_the_profiler(tmp_path):
    class Fails:
        @hookimpl
        def on_iteration_end(self, phase):
            if phase.progress.iterations == 4:
                raise ZeroDivisionError

    session = session_with(tmp_path, Fails(), Profile(range(3, 9)), checkpoint_every_n_iterations=1)
    with pytest.raises(ZeroDivisionError):
        session()
    assert list(traces_of(session.run_dir)) == ["iterations-0000000003-to-0000000004"]


@pytest.mark.parametrize("iterations", [range(5, 5), range(3), range(1, 9, 2), range(9, 1, -1)])
def test_an_invalid_range_raises(iterations):
    with pytest.raises(HookError, match="a range of consecutive iterations"):
        Profile(iterations)


def test_without_a_run_directory_the_hook_raises_before_training():
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    with pytest.raises(HookError, match="Profile writes into the run directory"):
        Engine(lambda run, phase, batch: None, hooks=[Profile(range(1, 2))]).run(run)
