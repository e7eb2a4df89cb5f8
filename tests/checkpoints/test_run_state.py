import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TinySession, config_with

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.checkpoints.run_state import gather, restore
from torchbase.checkpoints.storage import Checkpoint
from torchbase.engine.phase import Progress
from torchbase.engine.training_step import TrainingStep
from torchbase.errors import CheckpointError
from torchbase.files.bitwise import different_values
from torchbase.hooks import BestValidation, MetricAverages
from torchbase.randomness.streams import restore_streams


class StepsEveryThird:
    """A hook that steps the optimizer at every third iteration and can stop the run. Its count is its state."""

    def __init__(self, phase=None, iterations=None):
        self.phase, self.iterations, self.count = phase, iterations, torch.zeros(1)

    @hookimpl
    def should_step_optimizer(self, run):
        return run.progress.iterations % 3 == 2

    @hookimpl
    def on_iteration_end(self, run, phase):
        self.count += 1
        if (phase.name, phase.progress.iterations) == (self.phase, self.iterations):
            run.request_stop("for the test")

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class Stream:
    """A loader that resumes at its position."""

    def __init__(self):
        self.position = 0

    def mini_batches(self, epoch, start):
        for _ in range(4 - start):
            self.position += 1
            yield torch.full((2, 3), float(self.position))

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def make_run(seed, loader=None, names=("a", "b"), width=4, hooks=()):
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 1))
    network[2].bias.requires_grad_(False)  # it never has a gradient
    batches = [torch.randn(2, 3, generator=torch.Generator().manual_seed(number)) for number in range(4)]
    return Run(
        training=Phase("training", loader if loader is not None else batches, is_training=True),
        validation=tuple(Phase(f"validation-{name}", batches[:3], votes=True) for name in names),
        max_epochs=3,
        network=network,
        optimizer=torch.optim.Adam([one for one in network.parameters() if one.requires_grad], lr=0.1),
        hooks={"averages": MetricAverages(), "steps": StepsEveryThird(), **dict(hooks)},
    )


def train(run):
    step = TrainingStep(
        lambda batch: {"output": run.network(batch)},
        lambda *, output: output.square().mean(),
        lambda *, loss_tensor: loss_tensor,
        len,
    )
    engine = Engine(defaults=[step], hooks=[BestValidation()])
    for name, hook in run.hooks.items():
        engine.register(hook, name)
    engine.run(run)
    return run


def stopped_in(phase, iterations, **arguments):
    return train(make_run(1, hooks={"steps": StepsEveryThird(phase, iterations)}, **arguments))


def through_a_file(parts, tmp_path):
    torch.save(parts, tmp_path / "parts.pth")
    return Checkpoint(tmp_path, 1, 6, torch.load(tmp_path / "parts.pth", weights_only=True))


def gradients_of(run):
    return [one.grad for one in run.network.parameters()]


@pytest.mark.parametrize("iterations", [4, 5, 6])  # the last of an epoch, one of the next, and one that steps
def test_a_new_run_is_restored_from_the_saved_state(tmp_path, iterations):
    run = stopped_in("training", iterations)
    saved = through_a_file(gather(run), tmp_path)
    fresh = make_run(2)
    for one in fresh.network.parameters():
        one.grad = torch.ones_like(one)
    restore(fresh, saved)
    assert different_values(fresh.network.state_dict(), run.network.state_dict()) == []
    assert different_values(fresh.optimizer.state_dict(), run.optimizer.state_dict()) == []
    assert different_values(gradients_of(fresh), gradients_of(run)) == []
    assert [one is None for one in gradients_of(fresh)] == [iterations == 6] * 5 + [True]
    assert (fresh.epoch, fresh.epochs_done) == (run.epoch, run.epochs_done)
    assert fresh.best_losses == run.best_losses
    assert [phase.progress for phase in fresh.phases] == [phase.progress for phase in run.phases]
    assert [phase.averages for phase in fresh.phases] == [phase.averages for phase in run.phases]
    assert fresh.hooks["steps"].count == run.hooks["steps"].count
    assert fresh.hooks["averages"].state_dict() == run.hooks["averages"].state_dict()


def test_a_restored_run_ends_like_an_uninterrupted_run(tmp_path):
    whole = train(make_run(1))
    for phase, iterations in (("training", 5), ("training", 8), ("validation-a", 2), ("validation-b", 4)):
        fresh = make_run(2)
        restore(fresh, through_a_file(gather(stopped_in(phase, iterations)), tmp_path))
        train(fresh)
        assert different_values(gather(fresh)["network"], gather(whole)["network"]) == []
        assert different_values(gather(fresh)["training"]["optimizer"], gather(whole)["training"]["optimizer"]) == []
        assert different_values([one.averages for one in fresh.phases], [one.averages for one in whole.phases]) == []
        assert fresh.best_losses == whole.best_losses


def test_gathered_tensors_are_those_of_the_run_and_not_copies():
    run = stopped_in("training", 5)
    parts = gather(run)
    assert parts["network"]["0.weight"].data_ptr() == run.network[0].weight.data_ptr()
    gradients = parts["training"]["optimizer"]["gradients"]
    assert gradients["0.weight"] is run.network[0].weight.grad
    assert parts["training"]["hooks"]["steps"]["count"] is run.hooks["steps"].count
    assert gradients.keys() == {
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "2.weight",
    }


def test_the_random_streams_are_restored_at_the_next_iteration(tmp_path):
    torch.manual_seed(5)
    saved = through_a_file(gather(make_run(5)), tmp_path)
    expected = torch.rand(3)
    fresh = make_run(6)
    torch.manual_seed(7)
    restore(fresh, saved)
    assert not torch.equal(torch.rand(3), expected)
    restore_streams(fresh.random_states)
    assert torch.equal(torch.rand(3), expected)


def test_an_interrupted_validation_restarts(tmp_path):
    run = stopped_in("validation-b", 5)
    assert run.validation[1].progress == Progress(iterations=5, mini_batches=2, done_after=4)
    fresh = make_run(2)
    restore(fresh, through_a_file(gather(run), tmp_path))
    assert [phase.progress for phase in fresh.phases] == [
        Progress(iterations=8, mini_batches=4, is_done=True, done_after=8),
        Progress(iterations=6, mini_batches=3, is_done=True, done_after=8),
        Progress(iterations=3, mini_batches=0, done_after=4),
    ]
    assert run.validation[1].progress == Progress(
        iterations=5, mini_batches=2, done_after=4
    )  # the run itself is unchanged


def test_an_interrupted_training_epoch_continues(tmp_path):
    fresh = make_run(2)
    restore(fresh, through_a_file(gather(stopped_in("training", 6)), tmp_path))
    assert fresh.progress == Progress(iterations=6, mini_batches=2, done_after=4)


def test_saved_losses_replace_those_of_the_run(tmp_path):
    saved = through_a_file(gather(make_run(1)), tmp_path)
    run = train(make_run(1))
    assert run.best_losses
    restore(run, saved)
    assert run.best_losses == {}
    assert run.epochs_done == 0


def test_another_network_is_refused_with_a_fix(tmp_path):
    saved = through_a_file(gather(make_run(1)), tmp_path)
    with pytest.raises(
        CheckpointError, match=r"(?s)The network saved in .* doesn't match .*0\.weight.*To fix, resume with"
    ):
        restore(make_run(1, width=5), saved)


def test_another_optimizer_is_refused_with_a_fix(tmp_path):
    saved = through_a_file(gather(make_run(1)), tmp_path)
    run = make_run(1)
    run.optimizer = torch.optim.Adam(run.network[0].parameters())
    with pytest.raises(
        CheckpointError, match=r"The optimizer saved in .* doesn't match .* To fix, resume with the code"
    ):
        restore(run, saved)


def test_a_phase_without_a_saved_state_starts_from_scratch_with_a_warning(tmp_path, caplog):
    saved = through_a_file(gather(stopped_in("training", 5)), tmp_path)
    fresh = make_run(2, names=("a", "new"))
    with caplog.at_level(logging.WARNING, "torchbase"):
        restore(fresh, saved)
    assert f"{tmp_path.name} has no state of validation-new, which starts from scratch." in caplog.text
    assert "validation-a" not in caplog.text
    assert fresh.validation[1].progress == Progress()
    assert fresh.validation[0].progress.iterations == 3
    assert train(fresh).validation[1].progress.iterations == 6


def test_the_training_loader_resumes_at_its_position(tmp_path):
    run = stopped_in("training", 6, loader=Stream())
    saved = through_a_file(gather(run), tmp_path)
    fresh = make_run(2, loader=Stream())
    restore(fresh, saved)
    assert fresh.training.loader.position == run.training.loader.position == 6


def test_a_loader_that_cannot_restore_a_state_gets_a_warning(tmp_path, caplog):
    saved = through_a_file(gather(stopped_in("training", 6, loader=Stream())), tmp_path)
    with caplog.at_level(logging.WARNING, "torchbase"):
        restore(make_run(2), saved)
    assert "has a state of the training loader, but this session's loader can't restore one" in caplog.text


def test_no_state_is_saved_of_a_loader_that_is_not_seekable():
    class Remembers(list):
        def state_dict(self):
            return {"position": 1}

        def load_state_dict(self, state):
            raise AssertionError

    assert gather(make_run(1, loader=Remembers()))["training"]["run"]["loader"] is None


@pytest.mark.parametrize(("started", "resumed"), [("Adam", "SGD"), ("SGD", "Adam"), ("Adam", "AdamW")])
def test_an_optimizer_of_another_class_is_refused(tmp_path, started, resumed):
    def session(name, **arguments):
        class WithOptimizer(TinySession):
            def init_optimizer(self):
                return getattr(torch.optim, name)(self.network.parameters(), lr=0.01)

        return WithOptimizer(config_with(num_epochs=3), tmp_path, **arguments)

    first = session(started)
    first()
    tag = Path(first.run_dir).name
    with pytest.raises(CheckpointError, match=f"has the class {started}, and this session built one with the class"):
        session(resumed, create_run_dir_afresh=False, source_run_dir_tag=tag)()


def test_a_learning_rate_changed_in_the_config_is_applied_and_any_other_is_restored(tmp_path, caplog):
    class Halve:
        @hookimpl
        def on_epoch_end(self, run):
            for group in run.optimizer.param_groups:
                group["lr"] /= 2

    def rate_after(num_epochs, **changes):
        session = TinySession(
            config_with(num_epochs=num_epochs, **changes),
            tmp_path,
            create_run_dir_afresh=False,
            source_run_dir_tag=Path(first.run_dir).name,
            allow_config_changes=True,
        )
        session.register(Halve())
        session()
        return session.optimizer.param_groups[0]["lr"]

    first = TinySession(config_with(num_epochs=2, learning_rate=0.04), tmp_path)
    first.register(Halve())
    first()
    assert rate_after(3, learning_rate=0.04) == 0.04 / 8
    assert caplog.text.count("continues with lr") == 0
    assert rate_after(4, learning_rate=0.001) == 0.001 / 2
    assert "The optimizer continues with lr=0.001 instead of 0.04" in caplog.text
    assert "undoes this change at its next step" not in caplog.text  # there is no schedule


RATES = st.sampled_from([0.01, 0.02, 0.04])
GROUP = st.fixed_dictionaries(
    {"lr": RATES, "weight_decay": RATES, "betas": st.sampled_from([(0.9, 0.99), (0.8, 0.99)])}
)
GROUPS = st.tuples(GROUP, GROUP, GROUP)


def run_with_groups(groups):
    run = make_run(1)
    parameters = [one for one in run.network.parameters() if one.requires_grad]
    built = [{"params": [one], **values} for one, values in zip(parameters, groups, strict=False)]
    # The defaults are those of the first group, so that the others have values of their own.
    optimizer = torch.optim.AdamW([{"params": built[0]["params"]}, *built[1:]], **groups[0])
    return Run(training=run.training, max_epochs=3, network=run.network, optimizer=optimizer)


@settings(max_examples=30, deadline=None)
@given(then=GROUPS, now=GROUPS, factors=st.tuples(*3 * [st.sampled_from([1.0, 0.5])]))
def test_each_group_goes_on_with_its_changed_values_and_with_the_saved_values_otherwise(
    tmp_path_factory, then, now, factors
):
    first = run_with_groups(then)
    for group, factor in zip(first.optimizer.param_groups, factors, strict=True):
        group["lr"] *= factor  # as a schedule does
    resumed = run_with_groups(now)
    restore(resumed, through_a_file(gather(first), tmp_path_factory.mktemp("saved")))
    for group, old, new, factor in zip(resumed.optimizer.param_groups, then, now, factors, strict=True):
        saved = {**old, "lr": old["lr"] * factor}
        assert {name: group[name] for name in new} == {
            name: value if value != old[name] else saved[name] for name, value in new.items()
        }
    again = run_with_groups(now)  # a later resume of the changed code changes nothing more
    restore(again, through_a_file(gather(resumed), tmp_path_factory.mktemp("saved")))
    assert [group["lr"] for group in again.optimizer.param_groups] == [
        group["lr"] for group in resumed.optimizer.param_groups
    ]


def test_a_changed_value_is_noted_with_its_group(tmp_path, caplog):
    groups = [{"lr": 0.01}, {"lr": 0.02}, {"lr": 0.04}]
    first, resumed = run_with_groups(groups), run_with_groups([*groups[:2], {"lr": 0.08}])
    with caplog.at_level(logging.WARNING, "torchbase"):
        restore(resumed, through_a_file(gather(first), tmp_path))
    assert [record.getMessage() for record in caplog.records] == [
        "The optimizer continues with lr=0.08 instead of 0.04 in parameter group 2."
    ]
