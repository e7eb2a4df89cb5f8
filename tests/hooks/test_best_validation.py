import json
import logging
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, KeepNetworks, StopAt, TinySession, config_with, make_dataset, read_scalars

from torchbase import BaseMetricsClass, Engine, Phase, Run, ValidationDatasetsDict, hookimpl
from torchbase.errors import HookError
from torchbase.files.bitwise import different_values
from torchbase.hooks import BestValidation
from torchbase.metrics import higher_is_better
from torchbase.run_directory.directory import RunDirectory


def run_with(losses_of_sets, tmp_path, demo=()):
    """Runs epochs with the given validation losses of each set; returns the best epochs, and the run."""
    best_epochs = []

    class Losses:
        @hookimpl
        def compute_phase_metrics(self, run, phase):
            name = phase.name.removeprefix("validation-")
            return {} if phase.is_training else {"loss": losses_of_sets[name][run.epoch - 1]}

        @hookimpl
        def on_best_epoch(self, run):
            best_epochs.append(run.epoch)

    network = torch.nn.Linear(1, 1)
    run = Run(
        training=Phase("training", [1], is_training=True),
        validation=tuple(Phase(f"validation-{name}", [1], votes=name not in demo) for name in losses_of_sets),
        max_epochs=len(next(iter(losses_of_sets.values()))),
        network=network,
        run_directory=RunDirectory.create(tmp_path),
    )

    def step(run, phase, batch):
        network.weight.data.fill_(run.epoch)

    Engine(step, hooks=[Losses(), BestValidation()]).run(run)
    state = torch.load(run.run_directory.path / "network.pth", weights_only=True)
    assert state["weight"].item() == best_epochs[-1]
    return best_epochs, run


def test_the_network_of_the_lowest_loss_is_saved(tmp_path):
    best_epochs, run = run_with({"valid": [3.0, 2.0, 2.5, 1.0, 1.0]}, tmp_path)
    assert best_epochs == [1, 2, 4]
    assert (run.best_losses["validation-valid"].loss, run.best_losses["validation-valid"].epoch) == (1.0, 4)


def test_every_voting_set_has_to_agree(tmp_path):
    best_epochs, run = run_with({"a": [3.0, 2.0, 1.0, 0.5], "b": [3.0, 4.0, 2.0, 2.5]}, tmp_path)
    assert best_epochs == [1, 3]
    assert {name: best.epoch for name, best in run.best_losses.items()} == {"validation-a": 4, "validation-b": 3}


def test_a_set_for_demo_has_no_vote_but_a_best_loss(tmp_path):
    best_epochs, run = run_with({"a": [3.0, 2.0], "demo": [1.0, 5.0]}, tmp_path, demo=["demo"])
    assert best_epochs == [1, 2]
    assert run.best_losses["validation-demo"].epoch == 1


def test_without_voting_sets_the_last_network_is_saved_with_one_warning(tmp_path, caplog):
    class OnlyDemo(TinySession):
        def init_datasets(self):
            return make_dataset(), ValidationDatasetsDict(
                datasets=(make_dataset(),), only_for_demo=(True,), names=("demo",)
            )

    session = OnlyDemo(config_with(num_epochs=3), tmp_path)
    with caplog.at_level(logging.WARNING, "torchbase"):
        session()
    assert len([record for record in caplog.records if "No validation set votes" in record.message]) == 1
    saved = torch.load(f"{session.run_dir}/network.pth", weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in session.network.state_dict().items())


def test_without_averages_the_error_names_the_hook_to_register(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.unregister("metric_averages")
    with pytest.raises(HookError, match=r"no average named 'loss'.*register MetricAverages"):
        session()


def test_a_nan_loss_in_the_first_epoch_does_not_stay_the_best(tmp_path):
    class NanAtFirst(TinySession):
        def get_loss_value(self, *, loss_tensor):
            return loss_tensor if self.network.training or self.epoch > 1 else loss_tensor * float("nan")

    class NoteEpoch:
        def __init__(self, session):
            self.session = session

        @hookimpl
        def on_epoch_start(self, run):
            self.session.epoch = run.epoch

    session = NanAtFirst(config_with(num_epochs=3, nan_policy="skip"), tmp_path)
    session.epoch = 0
    session.register(NoteEpoch(session))
    best = session().best_losses["validation-valid"]
    assert best.epoch > 1
    assert best.loss > 0


class Sized(BaseMetricsClass):
    def size(self, *, output):
        return output.square().mean()


class TwoVoters(TinySession):
    def init_datasets(self):
        return make_dataset(), ValidationDatasetsDict(
            datasets=(make_dataset(10, 0.1), make_dataset(6, 5.0), make_dataset(4)),
            only_for_demo=(False, False, True),
            names=("near", "far", "demo"),
            every=("1ep", "2ep", "3ep"),
        )

    def init_metrics(self):
        return [Sized()]


def read_decisions(session):
    return [json.loads(line) for line in Path(session.run_dir, "votes.jsonl").read_text().splitlines()]


def voting_session(tmp_path, arguments, **config):
    session = TwoVoters({**config_with(**config), "metrics": {"Sized": ["size"]}}, tmp_path)
    session.unregister("best_validation")
    session.register(BestValidation(**arguments))
    return session


def test_sets_vote_in_the_epochs_in_which_they_are_validated(tmp_path):
    session = voting_session(tmp_path, {"rule": "any"}, num_epochs=5)
    summary = session()
    voters = [[vote["phase"] for vote in decision["votes"]] for decision in read_decisions(session)]
    near, far = "validation-near", "validation-far"
    assert voters == [[near], [near, far], [near], [near, far], [near, far]]  # all sets in the last epoch
    scalars = read_scalars(session.run_dir)
    assert [step for step, _ in scalars["validation-demo/loss/epochs"]] == [3, 5]
    for name, best in summary.best_losses.items():
        curve = dict(scalars[f"{name}/loss/epochs"])
        assert min(curve, key=curve.get) == best.epoch
    for decision in read_decisions(session):
        assert decision["is_best"] is any(vote["is_for"] for vote in decision["votes"])
        assert decision["reason"].startswith("any: ")


def test_any_metric_can_decide_and_higher_can_be_better(tmp_path):
    session = voting_session(
        tmp_path, {"monitor": "size", "mode": "max", "rule": lambda votes: votes["validation-near"]}
    )
    session.register(keep := KeepNetworks())
    session()
    values = dict(read_scalars(session.run_dir)["validation-near/size/epochs"])
    best = torch.load(Path(session.run_dir, "network.pth"), weights_only=True)
    assert different_values(dict(best), keep.networks[max(values, key=values.get)]) == []


def test_an_unknown_monitor_raises_with_the_nearest_name(tmp_path):
    with pytest.raises(HookError, match=r"BestValidation monitors 'sice'.*validation-near.*Did you mean 'size'"):
        voting_session(tmp_path, {"monitor": "sice", "mode": "max"})()


def test_a_metric_with_a_direction_needs_no_mode(tmp_path):
    class Declared(BaseMetricsClass):
        @higher_is_better
        def size(self, *, output):
            return output.square().mean()

    class DeclaredSession(TwoVoters):
        def init_metrics(self):
            return [Declared()]

    session = DeclaredSession({**config_with(num_epochs=4), "metrics": {"Declared": ["size"]}}, tmp_path)
    session.unregister("best_validation")
    session.register(BestValidation("size", rule=lambda votes: votes["validation-near"]))
    session.register(keep := KeepNetworks())
    session()
    values = dict(read_scalars(session.run_dir)["validation-near/size/epochs"])
    best = torch.load(Path(session.run_dir, "network.pth"), weights_only=True)
    assert different_values(dict(best), keep.networks[max(values, key=values.get)]) == []


@pytest.mark.parametrize(("name", "value"), [("mode", "maximum"), ("rule", "most")])
def test_an_invalid_mode_or_rule_raises_at_once(name, value):
    with pytest.raises(HookError, match=rf"The {name} of BestValidation.*'{value}'"):
        BestValidation(**{name: value})


@pytest.mark.parametrize("stop", ["training 3", "training 5", "validation-near 3", "validation-far 4", "training 12"])
def test_a_resumed_run_saves_the_same_network_and_decisions(tmp_path, stop):
    phase_name, iteration = stop.split()

    class Stop:
        @hookimpl
        def on_iteration_end(self, run, phase):
            if phase.name == phase_name and phase.progress.iterations == int(iteration):
                run.request_stop("for the test")

    arguments, config = {"rule": "majority", "monitor": "size", "mode": "min"}, {"num_epochs": 4}
    whole = voting_session(tmp_path / "whole", arguments, **config)
    whole()
    stopped = voting_session(tmp_path / "stopped", arguments, **config)
    stopped.register(Stop())
    assert stopped().stop_reason == "for the test"
    resumed = TwoVoters.resume(tmp_path / "stopped")
    resumed.unregister("best_validation")
    resumed.register(BestValidation(**arguments))
    resumed()
    assert read_decisions(resumed) == read_decisions(whole)
    best = [torch.load(Path(session.run_dir, "network.pth"), weights_only=True) for session in (whole, resumed)]
    assert different_values(*map(dict, best)) == []


@pytest.mark.parametrize("stop", [None, 7])
def test_the_summary_has_the_value_by_which_the_best_network_was_chosen(tmp_path, stop):
    class ByScore(TinySession):
        def init_best_validation(self):
            return BestValidation("score", mode="max")

    class Scores:
        @hookimpl
        def compute_phase_metrics(self, run, phase):
            return {"score": [2.0, 5.0, 3.0][run.epoch - 1]}

    session = ByScore(config_with(num_epochs=3), tmp_path)
    session.register(Scores())
    if stop is not None:
        session.register(StopAt(stop))
        best = session().best_network
        assert (best.epoch, best.values) == (1, {"validation-valid": 2.0})
        session = ByScore.resume(tmp_path)
        session.register(Scores())
    best = session().best_network
    assert (best.epoch, best.iteration, best.monitor, best.values) == (2, 10, "score", {"validation-valid": 5.0})
    finished = ByScore.resume(tmp_path)
    finished.register(Scores())
    assert finished().best_network == best


def test_a_network_that_another_hook_chooses_has_its_values_too(tmp_path):
    class First:
        @hookimpl(tryfirst=True)
        def is_best_epoch(self, run):
            return run.epoch == 1

    session = TinySession(config_with(num_epochs=2), tmp_path)
    session.register(First())
    summary = session()
    best = summary.best_network
    assert (best.epoch, list(best.values)) == (1, ["validation-valid"])


@pytest.mark.parametrize("returned", [None, BestValidation, "accuracy"])
def test_something_else_than_a_best_validation_is_refused(tmp_path, returned):
    class Wrong(TinySession):
        def init_best_validation(self):
            return returned

    with pytest.raises(HookError, match=r"init_best_validation has to return a BestValidation, but returned .* To fix"):
        Wrong(CONFIG, tmp_path)
    assert list(tmp_path.iterdir()) == []
