import torch
from hooks_to_check import CountsWithoutState, DrawsBeforeForward, GradientNorms, LogsTime

from torchbase import Phase, Run
from torchbase.testing import HookTrial
from torchbase.testing.traces import Divergence, Point, ProcessTrace, Trace, find_all_differences, find_divergence


def traces_of(make_hook):
    trial, without, with_hook = HookTrial(make_hook), Trace(), Trace()
    trial.run(with_hook=False, watched_by=[without])
    trial.run(watched_by=[with_hook])
    return without, with_hook


def test_equal_runs_do_not_diverge():
    without, with_hook = traces_of(GradientNorms)
    assert find_divergence(without, with_hook) is None
    # 10 training iterations with 4 points, 10 validation iterations with 3 points, and the end.
    assert len(without.points) == 10 * 4 + 10 * 3 + 1


def test_the_first_point_at_which_runs_differ_is_found():
    divergence = find_divergence(*traces_of(DrawsBeforeForward))
    assert divergence.before == Point("on_iteration_start", "training", 1)
    assert divergence.at == Point("on_loss_computed", "training", 1)
    assert set(divergence.what) == {("loss", ""), ("random streams", "torch")}
    assert divergence.is_in("loss")
    assert not divergence.is_in("network")


def test_the_optimizer_is_compared():
    divergence = find_divergence(*traces_of(CountsWithoutState))
    assert str(divergence.at) == "on_gradients_ready of training iteration 2"
    assert divergence.what == (("optimizer", "param_groups.0.lr"),)


def test_the_events_between_two_points_are_those_that_may_have_fired():
    events = ["on_epoch_start", "run_iteration", "run_forward", "on_iteration_end", "on_values_read", "log_scalars"]

    def between(before, at):
        start = None if before is None else Point(before, "training", 1)
        return Divergence(start, Point(at, "training", 2), ()).events_between(events)

    assert between(None, "on_iteration_start") == ["on_epoch_start", "run_iteration", "log_scalars"]
    assert between("on_iteration_start", "on_loss_computed") == ["run_iteration", "run_forward", "log_scalars"]
    # Between the end of one iteration and the start of another, an epoch may end and another may start.
    assert between("on_iteration_end", "on_iteration_start") == [
        "on_epoch_start",
        "run_iteration",
        "on_iteration_end",
        "on_values_read",
        "log_scalars",
    ]


def test_the_parts_of_a_mini_batch_have_points_of_their_own():
    trace = Trace()
    trial = HookTrial(GradientNorms).with_keys(mini_batch_parts=2, mini_batch_size=6)
    trial.run(watched_by=[trace])
    parts = [point.part for point in trace.points if point.event == "on_loss_computed"]
    assert parts == [0, 1] * (len(parts) // 2)
    assert {point.part for point in trace.points if point.event != "on_loss_computed"} == {None}
    second = Point("on_loss_computed", "training", 1, part=1)
    assert str(second) == "on_loss_computed of training iteration 1, part 1"
    divergence = Divergence(Point("on_loss_computed", "training", 1, part=0), second, ())
    events = ["on_iteration_start", "run_part", "run_forward", "on_loss_computed", "on_gradients_ready"]
    assert divergence.events_between(events) == ["run_part", "run_forward", "on_loss_computed"]


def test_values_averages_and_draws_between_iterations_are_compared_on_request():
    traces = [ProcessTrace(), ProcessTrace()]
    for trace in traces:
        HookTrial(LogsTime).run(watched_by=[trace])
    differences = {("values", "seconds"), ("averages", "seconds")}
    assert find_all_differences(*traces) == differences
    assert find_divergence(*traces).at == Point("on_iteration_end", "training", 1)
    assert find_divergence(*traces, ignored=differences) is None
    assert "random streams" in traces[0].points[Point("on_epoch_end", "training", 5)]


def test_tensors_of_any_kind_have_a_checksum():
    first, second = Trace(), Trace()
    point = Point("on_iteration_end", "training", 1)

    class OfManyKinds(torch.nn.Module):
        def __init__(self, last):
            super().__init__()
            self.register_buffer("sparse", torch.tensor([[0.0, last]]).to_sparse())
            self.register_buffer("narrow", torch.tensor(last, dtype=torch.bfloat16))
            self.register_buffer("empty", torch.zeros(0, 3))
            self.register_buffer("transposed", torch.arange(6.0).reshape(2, 3).t() * last)

    for trace, last in ((first, 1.0), (second, 2.0)):
        run = Run(training=Phase("training", []), max_epochs=1, network=OfManyKinds(last))
        run.optimizer = torch.optim.SGD([torch.zeros(1)])
        run.training.progress.iterations = 1
        trace.on_iteration_end(run, run.training)
    divergence = find_divergence(first, second)
    assert divergence.at == point
    assert [name for _, name in divergence.what] == ["sparse", "narrow", "transposed"]
