import json
import logging
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, KeepNetworks, TinySession, config_with, make_dataset, read_scalars

from torchbase import BaseMetricsClass, Engine, Phase, Run, ValidationDatasetsDict, hookimpl
from torchbase.errors import HookError
from torchbase.files.bitwise import different_values
from torchbase.hooks import BestValidation
from torchbase.run_directory.directory import RunDirectory


def run_with(losses_of_sets, tmp_path, demo=()):
    """Runs epochs whose validation losses are given, by set; returns the epochs after which the network was kept."""
    kept = []

    class Losses:
        @hookimpl
        def compute_phase_metrics(self, run, phase):
            name = phase.name.removeprefix("validation-")
            return {} if phase.is_training else {"loss": losses_of_sets[name][run.epoch - 1]}

        @hookimpl
        def on_best_epoch(self, run):
            kept.append(run.epoch)

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
    assert state["weight"].item() == kept[-1]
    return kept, run


def test_the_epoch_of_the_lowest_loss_is_kept(tmp_path):
    kept, run = run_with({"valid": [3.0, 2.0, 2.5, 1.0, 1.0]}, tmp_path)
    assert kept == [1, 2, 4]
    assert (run.best_losses["validation-valid"].loss, run.best_losses["validation-valid"].epoch) == (1.0, 4)


def test_every_voting_set_has_to_agree(tmp_path):
    kept, run = run_with({"a": [3.0, 2.0, 1.0, 0.5], "b": [3.0, 4.0, 2.0, 2.5]}, tmp_path)
    assert kept == [1, 3]
    assert {name: best.epoch for name, best in run.best_losses.items()} == {"validation-a": 4, "validation-b": 3}


def test_a_set_for_demo_has_no_vote_but_a_best_loss(tmp_path):
    kept, run = run_with({"a": [3.0, 2.0], "demo": [1.0, 5.0]}, tmp_path, demo=["demo"])
    assert kept == [1, 2]
    assert run.best_losses["validation-demo"].epoch == 1


def test_without_a_vote_the_last_network_is_kept_and_one_warning_says_so(tmp_path, caplog):
    class OnlyDemo(TinySession):
        def init_datasets(self):
            return make_dataset(), ValidationDatasetsDict(
                datasets=(make_dataset(),), only_for_demo=(True,), names=("demo",)
            )

    session = OnlyDemo(config_with(num_epochs=3), tmp_path)
    with caplog.at_level(logging.WARNING, "torchbase"):
        session()
    assert len([record for record in caplog.records if "No validation set votes" in record.message]) == 1
    kept = torch.load(f"{session.run_dir}/network.pth", weights_only=True)
    assert all(torch.equal(value, kept[name]) for name, value in session.network.state_dict().items())


def test_without_averages_the_error_says_what_to_register(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.unregister("metric_averages")
    with pytest.raises(HookError, match=r"no average named 'loss'.*register MetricAverages"):
        session()


def test_a_first_loss_that_is_nan_is_not_the_best_for_good(tmp_path):
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


def decisions_of(session):
    return [json.loads(line) for line in Path(session.run_dir, "votes.jsonl").read_text().splitlines()]


def voting(tmp_path, arguments, **config):
    session = TwoVoters({**config_with(**config), "metrics": {"Sized": ["size"]}}, tmp_path)
    session.unregister("best_validation")
    session.register(BestValidation(**arguments))
    return session


def test_sets_vote_in_the_epochs_in_which_they_are_validated_on_and_the_reasons_are_kept(tmp_path):
    session = voting(tmp_path, {"rule": "any"}, num_epochs=5)
    summary = session()
    voters = [[vote["phase"] for vote in one["votes"]] for one in decisions_of(session)]
    near, far = "validation-near", "validation-far"
    assert voters == [[near], [near, far], [near], [near, far], [near, far]]  # all of them in the last epoch
    scalars = read_scalars(session.run_dir)
    assert [step for step, _ in scalars["validation-demo/loss/epochs"]] == [3, 5]
    for name, best in summary.best_losses.items():
        curve = dict(scalars[f"{name}/loss/epochs"])
        assert min(curve, key=curve.get) == best.epoch
    for decision in decisions_of(session):
        assert decision["kept"] is any(vote["is_for"] for vote in decision["votes"])
        assert decision["reason"].startswith("any: ")


def test_any_metric_can_decide_and_higher_can_be_better(tmp_path):
    session = voting(tmp_path, {"monitor": "size", "mode": "max", "rule": lambda votes: votes["validation-near"]})
    session.register(kept := KeepNetworks())
    session()
    values = dict(read_scalars(session.run_dir)["validation-near/size/epochs"])
    best = torch.load(Path(session.run_dir, "network.pth"), weights_only=True)
    assert different_values(dict(best), kept.networks[max(values, key=values.get)]) == []


def test_a_monitor_that_is_not_there_is_named_with_the_nearest(tmp_path):
    with pytest.raises(HookError, match=r"no average named 'sice'.*Did you mean 'size'"):
        voting(tmp_path, {"monitor": "sice"})()


@pytest.mark.parametrize(("name", "value"), [("mode", "maximum"), ("rule", "most")])
def test_an_invalid_mode_or_rule_raises_at_once(name, value):
    with pytest.raises(HookError, match=rf"The {name} of BestValidation.*'{value}'"):
        BestValidation(**{name: value})


@pytest.mark.parametrize("stop", ["training 3", "training 5", "validation-near 3", "validation-far 4", "training 12"])
def test_a_run_that_was_stopped_keeps_the_same_network_and_decisions(tmp_path, stop):
    phase_name, iteration = stop.split()

    class Stop:
        @hookimpl
        def on_iteration_end(self, run, phase):
            if phase.name == phase_name and phase.progress.iterations == int(iteration):
                run.request_stop("for the test")

    arguments, config = {"rule": "majority", "monitor": "size"}, {"num_epochs": 4}
    whole = voting(tmp_path / "whole", arguments, **config)
    whole()
    begun = voting(tmp_path / "stopped", arguments, **config)
    begun.register(Stop())
    assert begun().stop_reason == "for the test"
    resumed = TwoVoters.resume(tmp_path / "stopped")
    resumed.unregister("best_validation")
    resumed.register(BestValidation(**arguments))
    resumed()
    assert decisions_of(resumed) == decisions_of(whole)
    best = [torch.load(Path(one.run_dir, "network.pth"), weights_only=True) for one in (whole, resumed)]
    assert different_values(*map(dict, best)) == []
