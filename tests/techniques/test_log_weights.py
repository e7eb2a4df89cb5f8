import pytest
from every_technique import Recorder, check_resumes_exactly, session_with, step_plainly, train_by_hand

from torchbase.errors import HookError, IntervalError
from torchbase.files.bitwise import different_values
from torchbase.hooks import LogWeights

HISTOGRAMS = {"histograms": 0}  # no limit


@pytest.mark.parametrize(
    ("every", "iterations", "unit"), [("2ep", [10, 20], "epochs"), ("4it", [4, 8, 12, 16, 20], "iterations")]
)
def test_the_weights_of_a_loop_by_hand_are_logged(tmp_path, every, iterations, unit):
    done, expected = [], {}

    def step(session, batch):
        step_plainly(session, batch)
        done.append(batch)
        if len(done) in iterations:
            step_number = len(done) if unit == "iterations" else len(done) // 5
            for name, parameter in session.network.named_parameters():
                expected[f"training/weights/{name}/{unit}", step_number] = parameter.detach().reshape(-1).clone()

    train_by_hand(tmp_path, step, epochs=4)
    session_with(tmp_path, LogWeights(every), recorder := Recorder(), num_epochs=4)()
    assert different_values(recorder.histograms, expected) == []


def test_event_files_hold_the_histograms_and_a_resumed_run_continues_exactly(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    session = check_resumes_exactly(tmp_path, lambda: [LogWeights("3it", "layers.0.*")])
    for run_dir in (session.run_dir, next((tmp_path / "stopped").iterdir())):
        accumulator = EventAccumulator(str(run_dir), HISTOGRAMS).Reload()
        assert sorted(accumulator.Tags()["histograms"]) == [
            "training/weights/layers.0.bias/iterations",
            "training/weights/layers.0.weight/iterations",
        ]
        steps = [entry.step for entry in accumulator.Histograms("training/weights/layers.0.bias/iterations")]
        assert steps == [3, 6, 9]


def test_invalid_arguments_raise(tmp_path):
    with pytest.raises(IntervalError, match="isn't possible here"):
        LogWeights("5s")
    with pytest.raises(HookError, match="No parameter of TinyNetwork matches"):
        session_with(tmp_path, LogWeights(pattern="encoder.*"))()
