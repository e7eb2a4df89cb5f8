import pytest
from every_technique import check_resumes_exactly, session_with
from tiny import KeepNetworks, StopAt, TinySession, read_scalars

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.errors import HookError
from torchbase.files.bitwise import different_values
from torchbase.hooks import EarlyStopping

NAN = float("nan")


class Losses:
    """Returns a fixed loss of the validation set in each epoch."""

    def __init__(self, values):
        self.values = values

    @hookimpl
    def compute_phase_metrics(self, run, phase):
        return {} if phase.is_training else {"loss": self.values[run.epoch - 1]}


def run_on(values, **arguments):
    run = Run(
        training=Phase("training", [1], is_training=True),
        validation=(Phase("validation-v", [1], votes=True),),
        max_epochs=len(values),
    )
    Engine(lambda run, phase, batch: None, hooks=[Losses(values), EarlyStopping(**arguments)]).run(run)
    return run


@pytest.mark.parametrize(
    ("values", "arguments", "epochs"),
    [
        ([5, 4, 3, 2, 1], {"patience": 1}, 5),
        ([3, 2, 2, 1, 1, 1, 1], {"patience": 2}, 6),
        ([3, 2, 4, 1, 5, 6, 7, 0], {"patience": 3}, 7),
        ([1, 2, 3, 3, 2], {"patience": 2, "mode": "max"}, 5),
        ([1, 2, 2, 2, 9], {"patience": 2, "mode": "max"}, 4),
        ([3.0, 2.9, 2.8, 2.7], {"patience": 2, "min_delta": 0.15}, 4),  # 2.8 improves on 3.0, and 2.9 doesn't
        ([3.0, 2.9, 2.8, 2.7], {"patience": 2, "min_delta": 0.25}, 3),
        ([1.0, 1.1, 1.2, 1.3], {"patience": 2, "min_delta": 0.25, "mode": "max"}, 3),
        ([NAN, 2, NAN, NAN, 1], {"patience": 2}, 4),
        ([NAN, NAN, NAN], {"patience": 2}, 2),
    ],
)
def test_the_run_stops_when_the_patience_is_exhausted(values, arguments, epochs):
    run = run_on(values, **arguments)
    assert run.epochs_done == epochs
    assert (run.stop_reason is not None) == (epochs < len(values))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([2.5, 3, 3], "the loss of validation-v has not improved on 2.5 for 1 passes in a row"),
        ([NAN, 3, 3], "the loss of validation-v was NaN for 1 passes in a row"),
    ],
)
def test_the_stop_reason_describes_the_value(values, reason):
    assert run_on(values, patience=1).stop_reason == reason


def test_the_weights_equal_those_of_the_same_epochs_without_the_hook(tmp_path):
    session = session_with(tmp_path, EarlyStopping(patience=2), num_epochs=60, learning_rate=0.5)
    summary = session()
    assert 2 < summary.epochs_done < 60
    losses = [value for _, value in read_scalars(session.run_dir)["validation-valid/loss/epochs"]]
    assert len(losses) - 2 == min(range(len(losses)), key=losses.__getitem__) + 1
    plain = session_with(tmp_path, keep := KeepNetworks(), num_epochs=summary.epochs_done, learning_rate=0.5)
    plain()
    assert different_values(session.network.state_dict(), keep.networks[summary.epochs_done]) == []


def test_a_resumed_run_stops_at_the_same_epoch(tmp_path):
    def hooks():
        return [EarlyStopping("loss", "training", patience=1, min_delta=0.5)]

    whole = check_resumes_exactly(tmp_path, hooks, num_epochs=20)
    assert whole._run.epochs_done < 20
    stopped = session_with(tmp_path / "again", *hooks(), StopAt(2, "validation-valid"), num_epochs=20, dropout=0.3)
    stopped()
    resumed = TinySession.resume(tmp_path / "again")
    resumed.register(*hooks())
    assert resumed().epochs_done == whole._run.epochs_done


def test_a_stopped_run_stops_again_or_continues_with_more_patience(tmp_path):
    ended = session_with(tmp_path, EarlyStopping(patience=1, min_delta=100.0), num_epochs=5)
    assert ended().epochs_done == 2
    same = TinySession.resume(tmp_path)
    same.register(EarlyStopping(patience=1, min_delta=100.0))
    assert same().epochs_done == 2
    longer = TinySession.resume(tmp_path)
    longer.register(EarlyStopping(patience=3, min_delta=100.0))
    assert longer().epochs_done == 4


@pytest.mark.parametrize("arguments", [{"mode": "lowest"}, {"patience": 0}, {"min_delta": -1.0}, {"min_delta": NAN}])
def test_invalid_arguments_raise_at_once(arguments):
    with pytest.raises(HookError, match="EarlyStopping"):
        EarlyStopping(**arguments)


def test_an_unknown_phase_raises_before_training(tmp_path):
    with pytest.raises(HookError, match="no phase 'validation-vali' to monitor"):
        session_with(tmp_path, EarlyStopping(phase="validation-vali"))()
