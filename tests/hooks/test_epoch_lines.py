import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbase import Phase, Run
from torchbase.hooks import epoch_lines
from torchbase.hooks.epoch_lines import EpochClock, describe_averages

names = st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=30)
numbers = st.floats(width=32)


def test_what_fits_with_any_ending_is_one_line_with_the_loss_first():
    averages = {"training": {"loss": 1.127}, "valid": {"loss": 0.8515}}
    line = "epoch 1/5  training: loss 1.127 | valid: loss 0.8515  0.1 s, best"
    assert describe_averages("epoch 1/5", averages, "0.1 s, best") == line
    assert describe_averages("epoch 1/5", {"valid": {"accuracy": 0.5, "loss": 1.25}}).endswith(
        "loss 1.25, accuracy 0.5"
    )


def test_what_nearly_fits_is_two_lines():
    averages = {"training": {"loss": 1.25, "accuracy": 0.5}, "valid": {"loss": 0.75}}
    assert describe_averages("epoch 1/5", averages, "0.1 s, best", width=60).splitlines() == [
        "epoch 1/5  0.1 s, best",
        "  training: loss 1.25, accuracy 0.5 | valid: loss 0.75",
    ]


def test_more_is_a_table_that_goes_on_below():
    averages = {"training": {"loss": 12.3456, "accuracy": 0.5}, "valid": {"f1": float("nan"), "loss": 1e-9}}
    assert describe_averages("epoch 1/5", averages, width=34).splitlines() == [
        "epoch 1/5",
        "                 loss  accuracy",
        "  training      12.35    0.5000",
        "  valid     1.000e-09         -",
        "             f1",
        "  training    -",
        "  valid     nan",
    ]


@given(
    averages=st.dictionaries(names, st.dictionaries(names, numbers, min_size=1, max_size=15), min_size=1, max_size=6),
    width=st.integers(40, 120),
)
def test_no_line_is_wider_and_no_number_is_lost(averages, width):
    text = describe_averages("epoch 1/5", averages, "0.1 s", width)
    assert max(map(len, text.splitlines())) <= width
    shown = sorted(float(number) for number in re.findall(r"(?<=[ ])-?(?:\d[\d.e+-]*|inf|nan)(?=[,\n ]|$)", text))
    given = [f"{value:.4g}" for values in averages.values() for value in values.values()]
    for number in given:
        assert float(number) in shown or number == "nan"


def run_after(iterations, **arguments):
    run = Run(training=Phase("training", range(10), is_training=True), **arguments)
    run.progress.iterations = iterations
    run.training.progress.mini_batches = 10
    return run


@pytest.mark.parametrize(
    ("done", "arguments", "shown"),
    [
        ((10, 1), {"max_epochs": 11}, "00:30, 05:00 left"),  # 100 iterations of 3 s
        ((110, 11), {"max_epochs": 11}, "00:30"),
        ((10, 1), {"max_epochs": 11, "max_iterations": 35}, "00:30, 01:15 left"),
        ((10, 1), {"max_epochs": 11, "max_iterations": 10}, "00:30"),
        ((10, 1), {"max_epochs": 11, "stop_reason": "the loss is low enough"}, "00:30"),
    ],
)
def test_the_time_left_is_that_of_the_iterations_left(monkeypatch, done, arguments, shown):
    seconds = iter([0.0, 100.0, 130.0])
    clock = EpochClock.__new__(EpochClock)
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    clock.__init__()
    clock.start_epoch(run_after(done[0] - 10, **arguments))
    run = run_after(done[0], **arguments)
    run.epochs_done = done[1]
    assert clock.describe(run) == shown


def test_a_resumed_run_counts_its_own_iterations(monkeypatch):
    seconds = iter([0.0, 100.0, 115.0, 200.0, 220.0])
    monkeypatch.setattr(epoch_lines.time, "monotonic", lambda: next(seconds))
    clock = EpochClock()
    clock.start_epoch(run_after(5, max_epochs=3))
    run = run_after(10, max_epochs=3)
    run.epochs_done = 1
    assert clock.describe(run) == "00:15, 01:00 left"  # 5 iterations in 15 s, so 20 in 60 s
    clock.start_run()
    clock.start_epoch(run)
    assert clock.describe(run) == "00:20"
