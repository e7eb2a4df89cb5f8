import copy
import json
import logging
import math
import re
import textwrap
import traceback
from functools import partial
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tiny import CONFIG, TinyNetwork, TinySession, config_with, make_dataset, read_scalars

from torchbase import ValidationDatasetsDict, hookimpl
from torchbase.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MetricsError,
    NonFiniteError,
    RunDirectoryError,
    RunDirectoryLockedError,
    StepError,
)
from torchbase.hooks import Profile


def weights_of(session):
    return {name: value.clone() for name, value in session.network.state_dict().items()}


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_session_trains_and_returns_a_summary(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    summary = session()
    assert summary.run_dir == session.run_dir
    assert Path(session.run_dir).parent == tmp_path
    assert summary.epochs_done == 2
    assert summary.stop_reason == "all 2 epochs are done"
    assert summary.best_losses.keys() == {"validation-valid", "validation-demo"}
    assert summary.best_losses["validation-valid"].epoch in (1, 2)
    assert summary.averages.keys() == {"training", "validation-valid", "validation-demo"}
    assert summary.averages["training"]["loss"] > 0
    with pytest.raises(AttributeError):
        summary.epochs_done = 3


def test_the_run_directory_holds_the_documented_files(tmp_path):
    session = TinySession(CONFIG, tmp_path, tag_postfix="try")
    directory = Path(session.run_dir)
    assert directory.name.endswith("_try")
    assert json.loads((directory / "config.json").read_text()) == CONFIG
    assert json.loads((directory / "states" / "seeds.json").read_text()) == {"seed": 7}
    session()
    assert json.loads((directory / "environment.json").read_text())["torch"]["version"] == torch.__version__
    best = torch.load(directory / "network.pth", weights_only=True)
    TinyNetwork(0.0).load_state_dict(best)
    assert list(directory.glob("events.out.tfevents.*"))
    assert len(list((directory / "states").glob("checkpoint-*"))) == 2


def test_the_public_attributes_have_their_documented_values(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    assert session.config_session.learning_rate == 0.05
    assert session.config_data == {}
    assert session.config_metrics == {}
    assert session.config_network["dropout"] == 0.3
    assert session.device == torch.device("cpu")
    assert isinstance(session.network, TinyNetwork)
    assert isinstance(session.optimizer, torch.optim.Adam)
    assert session.optimizer.defaults["fused"]
    assert isinstance(session.run_dir, str)
    assert len(session.dataset_train) == 18
    assert list(session.datasets_valid_dict) == ["valid", "demo"]
    assert len(session.dataloader_train) == 5
    assert {name: len(loader) for name, loader in session.dataloader_valid_dict.items()} == {"valid": 3, "demo": 2}
    assert list(session.hooks) == list(session.engine.hooks)
    assert list(session.hooks)[2:] == [
        "seed_capture",
        "config_snapshot",
        "network_summary",
        "rehearsal",
        "metrics",
        "log_values",
        "nan_guard",
        "uncalled_hooks",
        "metric_averages",
        "best_validation",
        "interruption",
        "charts",
        "tensorboard",
        "console",
        "run_record",
        "checkpoint",
    ]


def test_a_subclass_may_set_attributes_after_the_constructor(tmp_path):
    class Wider(TinySession):
        def __init__(self, config, rows):
            super().__init__(config, tmp_path)
            self.rows = rows

        def init_datasets(self):
            return make_dataset(self.rows), super().init_datasets()[1]

    session = Wider(CONFIG, 8)
    session()
    assert len(session.dataset_train) == 8


def test_the_same_seed_trains_the_same_weights_in_any_order_of_access(tmp_path):
    first = TinySession(CONFIG, tmp_path)
    first()
    second = TinySession(CONFIG, tmp_path)
    torch.randn(3)
    assert second.optimizer is not None
    assert len(second.dataset_train) == 18
    second()
    assert are_equal(weights_of(first), weights_of(second))
    other = TinySession(config_with(seed=8), tmp_path)
    other()
    assert not are_equal(weights_of(first), weights_of(other))


def test_validation_sets_and_logging_do_not_change_the_weights(tmp_path):
    class Bare(TinySession):
        def init_datasets(self):
            return make_dataset(), ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())

    full, bare = TinySession(CONFIG, tmp_path), Bare(CONFIG, tmp_path)
    for name in ("tensorboard", "console", "log_values"):
        bare.unregister(name)
    full()
    bare()
    assert are_equal(weights_of(full), weights_of(bare))


def test_the_global_random_streams_are_restored(tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    TinySession(CONFIG, tmp_path)()
    assert torch.equal(torch.rand(3), expected)


def test_without_a_seed_one_is_drawn_and_saved(tmp_path):
    session = TinySession(config_with(seed=None), tmp_path)
    seed = json.loads((Path(session.run_dir) / "states" / "seeds.json").read_text())["seed"]
    session()
    again = TinySession(config_with(seed=seed), tmp_path)
    again()
    assert are_equal(weights_of(session), weights_of(again))


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_run(tmp_path):
    whole = TinySession(config_with(num_epochs=4), tmp_path)
    whole()
    first = TinySession(config_with(num_epochs=2), tmp_path)
    first()
    tag = Path(first.run_dir).name
    resumed = TinySession(config_with(num_epochs=4), tmp_path, create_run_dir_afresh=False, source_run_dir_tag=tag)
    summary = resumed()
    assert summary.epochs_done == 4
    assert resumed.run_dir == first.run_dir
    assert are_equal(weights_of(whole), weights_of(resumed))


@pytest.mark.parametrize("stop_at", range(1, 11))
def test_a_run_stopped_after_any_iteration_resumes_exactly(tmp_path, stop_at):
    class StopAt:
        @hookimpl
        def on_iteration_end(self, run, phase):
            if phase.is_training and phase.progress.iterations == stop_at:
                run.request_stop("for the test")

    whole = TinySession(CONFIG, tmp_path)
    expected = whole()
    first = TinySession(CONFIG, tmp_path)
    first.register(StopAt())
    assert first().stop_reason == "for the test"
    resumed = TinySession(CONFIG, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(first.run_dir).name)
    summary = resumed()
    assert are_equal(weights_of(whole), weights_of(resumed))
    assert summary.averages == expected.averages
    assert summary.best_losses == expected.best_losses


def test_a_run_stopped_during_validation_repeats_the_validation(tmp_path):
    class StopInValidation:
        @hookimpl
        def on_iteration_end(self, run, phase):
            if phase.name == "validation-valid" and phase.progress.iterations == 2:
                run.request_stop("for the test")

    whole = TinySession(CONFIG, tmp_path)
    expected = whole()
    first = TinySession(CONFIG, tmp_path)
    first.register(StopInValidation())
    assert first().epochs_done == 0
    resumed = TinySession(CONFIG, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(first.run_dir).name)
    summary = resumed()
    assert are_equal(weights_of(whole), weights_of(resumed))
    assert summary.averages == expected.averages


def test_calling_a_finished_session_again_trains_nothing_more(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    first = session()
    weights = weights_of(session)
    assert session() == first
    assert are_equal(weights, weights_of(session))


def test_a_new_run_can_start_from_the_network_of_another(tmp_path):
    source = TinySession(CONFIG, tmp_path)
    source()
    session = TinySession(CONFIG, tmp_path, source_run_dir_tag=Path(source.run_dir).name)
    assert session.run_dir != source.run_dir
    best = torch.load(Path(source.run_dir) / "network.pth", weights_only=True)
    assert are_equal(weights_of(session), best)
    assert session().epochs_done == 2


def test_a_network_that_does_not_match_the_saved_one_is_refused(tmp_path):
    source = TinySession(CONFIG, tmp_path)
    source()

    class Other(TinySession):
        def init_network(self):
            network = TinyNetwork(0.0)
            network.layers[3] = torch.nn.Linear(8, 2)
            return network

    tag = Path(source.run_dir).name
    with pytest.raises(CheckpointError, match=r"(?s)doesn't match TinyNetwork.*layers\.3\.weight"):
        _ = Other(CONFIG, tmp_path, source_run_dir_tag=tag).network
    with pytest.raises(CheckpointError, match=r"(?s)The network saved in .* doesn't match"):
        Other(CONFIG, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=tag)()


def test_a_resumed_run_keeps_its_seed_and_logs_the_changes_of_the_config(tmp_path, caplog):
    first = TinySession(config_with(seed=None), tmp_path)
    first()
    tag = Path(first.run_dir).name
    with caplog.at_level(logging.WARNING, "torchbase"):
        resumed = TinySession(
            config_with(seed=None, num_epochs=3), tmp_path, create_run_dir_afresh=False, source_run_dir_tag=tag
        )
    assert "session.num_epochs: 2 -> 3" in caplog.text
    assert list(Path(resumed.run_dir).glob("config_*.json")) == []  # nothing is written before the session is called
    resumed()
    assert len(list(Path(resumed.run_dir).glob("config_*.json"))) == 1
    del resumed
    with pytest.raises(ConfigError, match=r"session.seed is 1234567, and the run .* was started with"):
        TinySession(config_with(seed=1234567), tmp_path, create_run_dir_afresh=False, source_run_dir_tag=tag)


def test_two_sessions_cannot_write_one_run_directory(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    tag = Path(session.run_dir).name
    with pytest.raises(RunDirectoryLockedError):
        TinySession(CONFIG, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=tag)
    session()
    TinySession(CONFIG, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=tag)()


def test_a_session_without_the_lock_does_not_remove_the_run_directory(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    tag = Path(session.run_dir).name
    session._run_directory.writes.wait()
    session._run_directory.unlock()  # as after an interrupted run

    class CallTheOther:
        @hookimpl
        def on_epoch_start(self):
            with pytest.raises(RunDirectoryLockedError):
                session()
            assert Path(session.run_dir).exists()

    other = TinySession(CONFIG, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=tag)
    other.register(CallTheOther())
    assert other().epochs_done == 2


def test_a_run_that_was_opened_but_not_called_can_be_opened_again(tmp_path):
    TinySession(CONFIG, tmp_path)()
    first = TinySession.resume(tmp_path)
    second = TinySession.resume(tmp_path)
    for session in (first, second):
        session.load_best_network()
        assert session().epochs_done == 2


def test_a_run_that_fails_without_results_removes_its_directory_with_a_warning(tmp_path, caplog):
    class Failing(TinySession):
        def forward_pass(self, mini_batch):
            raise KeyError("image")

    session = Failing(CONFIG, tmp_path)
    assert Path(session.run_dir).exists()
    with pytest.raises(KeyError, match="image") as caught:
        session()
    assert not Path(session.run_dir).exists()
    assert session.run_dir in caplog.text
    assert caught.value.__notes__[0].startswith(
        "before training, with the first mini-batch of training: x: torch.float32"
    )


class Exploding(TinySession):
    """The loss is NaN from the third training iteration on."""

    def loss_function(self, *, output, target):
        late = self.network.training and self._run.progress.iterations >= 2
        return super().loss_function(output=output, target=target) * (math.nan if late else 1.0)


class FailsLate:
    """Raises an error that names no file, after mini-batches were skipped."""

    @hookimpl
    def on_iteration_end(self, run):
        if run.progress.iterations == 4:
            raise KeyError("image")


class DumpsAndFails:
    """Saves a file, and raises an error that names it."""

    @hookimpl
    def on_iteration_end(self, run):
        file = run.run_directory.file("dumps/sample.txt")
        file.write_text("a sample")
        raise KeyError(f"see {file}")


@pytest.mark.parametrize(
    ("policy", "hooks", "error"),
    [
        ("raise", (), NonFiniteError),
        ("skip", (FailsLate,), KeyError),
        ("raise", (DumpsAndFails,), KeyError),
        ("raise", (partial(Profile, range(1, 3)), FailsLate), (KeyError, NonFiniteError)),
    ],
)
def test_the_files_that_messages_of_a_failed_run_name_exist_afterwards(tmp_path, caplog, policy, hooks, error):
    session = Exploding(config_with(nan_policy=policy), tmp_path)
    for hook in hooks:
        session.register(hook())
    with caplog.at_level(logging.INFO, "torchbase"), pytest.raises(error) as caught:
        session()
    text = caplog.text + "".join(traceback.format_exception(caught.value))
    named = set(re.findall(rf"{re.escape(session.run_dir)}/[\w/.-]+\.(?:pth|txt|json)", text))
    assert named
    assert [name for name in named if not Path(name).is_file()] == []


def test_the_directory_of_a_run_that_fails_with_results_stays(tmp_path):
    class Failing(TinySession):
        def forward_pass(self, mini_batch):
            if self.hooks["fails"].epoch == 2:
                raise KeyError("image")
            return super().forward_pass(mini_batch)

    class Fails:
        epoch = 1

        @hookimpl
        def on_epoch_start(self, run):
            self.epoch = run.epoch

    session = Failing(CONFIG, tmp_path)
    session.register(Fails())
    with pytest.raises(KeyError):
        session()
    scalars = read_scalars(session.run_dir)
    assert [step for step, _ in scalars["training/loss/epochs"]] == [1]
    whole, resumed = (
        TinySession(CONFIG, tmp_path),
        TinySession(CONFIG, tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(session.run_dir).name),
    )
    assert whole().averages == resumed().averages


def test_invalid_configs_leave_no_directory(tmp_path):
    with pytest.raises(ConfigError, match="num_epochs"):
        TinySession({"session": {}, "network": {"architecture": "TinyNetwork"}}, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def returning(method, value):
    return type("Wrong", (TinySession,), {method: lambda self: value})


EMPTY = ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())


@pytest.mark.parametrize(
    ("method", "value", "error", "message"),
    [
        ("init_datasets", None, DataError, "has to return two things.*returned None, as a method without a return"),
        ("init_datasets", (make_dataset(),), DataError, "returned 1 things"),
        (
            "init_datasets",
            (1, EMPTY),
            DataError,
            "has to be a datasets.Dataset.*what init_datasets returned is an? int",
        ),
        ("init_datasets", (Dataset.from_dict({"x": []}), EMPTY), DataError, "The training set is empty"),
        ("init_datasets", (make_dataset(), {}), DataError, "have to be a ValidationDatasetsDict.*returned a dict"),
        ("init_network", None, StepError, "returned None, as a method without a return"),
        ("init_network", TinyNetwork, StepError, "returned the class TinyNetwork"),
        ("init_network", torch.nn.Linear(1, 1), ConfigError, "is 'TinyNetwork', and init_network returned a Linear"),
        ("init_optimizer", 0.1, StepError, "init_optimizer .* returned a float"),
        ("init_dataloaders", [], DataError, "init_dataloaders .* returned a list"),
        ("init_dataloaders", ([], {"valid": []}), DataError, "returned loaders for \\['valid'\\]"),
        ("init_metrics", [3], MetricsError, "init_metrics returned 3"),
    ],
)
def test_return_values_of_user_methods_are_checked_before_training(tmp_path, method, value, error, message):
    session = returning(method, value)(CONFIG, tmp_path)
    with pytest.raises(error, match=message):
        session()
    assert list(tmp_path.iterdir()) == []


def other_network(session):
    return TinyNetwork(0.0)


def copy_of_the_network(session):
    return copy.deepcopy(session.network)


def made_again(session):
    return session.init_network()


@pytest.mark.parametrize("network_of", [other_network, copy_of_the_network, made_again])
def test_an_optimizer_of_another_network_is_refused_before_training(tmp_path, network_of):
    class Wrong(TinySession):
        def init_optimizer(self):
            return torch.optim.SGD(network_of(self).parameters(), lr=0.1)

    with pytest.raises(StepError, match=r"holds 6 parameters, and none of them is among the 6 .* To fix, pass"):
        Wrong(CONFIG, tmp_path)()
    assert list(tmp_path.iterdir()) == []


def test_a_parameter_of_the_optimizer_that_is_not_the_networks_is_noted(tmp_path, caplog):
    class Extra(TinySession):
        def init_optimizer(self):
            return torch.optim.SGD([*self.network.parameters(), torch.nn.Parameter(torch.zeros(2))], lr=0.1)

    Extra(CONFIG, tmp_path)()
    assert "holds 1 parameter that isn't the network's. No checkpoint has their values" in caplog.text


def test_a_loss_function_with_positional_arguments_is_refused_before_a_directory_is_made(tmp_path):
    class Wrong(TinySession):
        def loss_function(self, output, target, /):
            return output.mean()

    with pytest.raises(StepError, match="'output' can't be passed by keyword"):
        Wrong(CONFIG, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_parameters_is_refused(tmp_path):
    class Wrong(TinySession):
        def init_network(self):
            network = TinyNetwork(0.0)
            network.requires_grad_(False)
            return network

    with pytest.raises(StepError, match="no parameter that requires a gradient"):
        Wrong(CONFIG, tmp_path)()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"create_run_dir_afresh": False}, "no run was named.*source_run_dir_tag"),
        ({"create_run_dir_afresh": False, "source_run_dir_tag": "no-such-run"}, "no-such-run"),
        ({"create_run_dir_afresh": False, "source_run_dir_tag": "../x"}, r"\.\./x"),
        ({"source_run_dir_tag": "no-such-run"}, "no-such-run"),
        ({"tag_postfix": "a/b"}, "a/b"),
        ({"create_run_dir_afresh": False, "source_run_dir_tag": "x", "tag_postfix": "y"}, "tag_postfix='y'"),
    ],
)
def test_invalid_run_directories_are_refused(tmp_path, arguments, message):
    with pytest.raises(RunDirectoryError, match=message):
        TinySession(CONFIG, tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_overridden_collate_function_is_called_with_a_list_of_samples(tmp_path):
    seen = []

    class Collating(TinySession):
        def dataloader_collate_function(self, batch):
            seen.append(batch)
            mini_batch = super().dataloader_collate_function(batch)
            return {"x": mini_batch["x"] + 0.1 * torch.randn(3), "y": mini_batch["y"]}

    first, second = Collating(CONFIG, tmp_path), Collating(config_with(dataloader_num_workers=2), tmp_path)
    first()
    second()
    assert isinstance(seen[0], list)
    assert seen[0][0].keys() == {"x", "y", "name"}
    assert len(seen[0]) == 4
    assert are_equal(weights_of(first), weights_of(second))


def test_a_training_set_smaller_than_a_mini_batch_trains_with_a_warning(tmp_path, caplog):
    session = TinySession(config_with(mini_batch_size=100), tmp_path)
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert session().epochs_done == 2
    assert "The training set has 18 samples, fewer than a mini-batch of 100" in caplog.text


def test_user_methods_log_values_of_an_iteration(tmp_path):
    class Logging(TinySession):
        def forward_pass(self, mini_batch):
            self.log("mean_of_x", mini_batch["x"].mean())
            return super().forward_pass(mini_batch)

    session = Logging(CONFIG, tmp_path)
    summary = session()
    scalars = read_scalars(session.run_dir)
    assert [step for step, _ in scalars["training/mean_of_x/iterations"]] == list(range(1, 11))
    assert scalars["validation-demo/mean_of_x/epochs"][1][1] == pytest.approx(
        summary.averages["validation-demo"]["mean_of_x"]
    )


SPAWNED = """
    import sys
    import torch

    sys.path.insert(0, {tests!r})
    from tiny import TinySession, config_with, make_dataset

    from torchbase import ValidationDatasetsDict

    class Collating(TinySession):
        def init_datasets(self):  # without validation sets, whose loaders would have workers, too
            return make_dataset(), ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())

        def dataloader_collate_function(self, batch):
            batch = super().dataloader_collate_function(batch)
            return {{"x": batch["x"] + self.scale * torch.randn(3), "y": batch["y"]}}

    if __name__ == "__main__":
        torch.multiprocessing.set_start_method({method!r})
        session = Collating(config_with(dataloader_num_workers={workers}, num_epochs=1), sys.argv[1])
        session.scale = 0.1
        print(session().averages["training"]["loss"])
"""


def test_an_overridden_collate_function_returns_the_same_in_spawned_workers(programs, tmp_path):
    losses = set()
    for method, workers in (("fork", 0), ("spawn", 1)):  # a spawned worker takes seconds for its imports
        script = tmp_path / f"{method}.py"
        script.write_text(
            textwrap.dedent(SPAWNED.format(tests=str(Path(__file__).parents[1]), method=method, workers=workers))
        )
        done = programs.run(script, tmp_path / "runs")
        assert done.returncode == 0, done.stderr
        losses.add(done.stdout)
    assert len(losses) == 1
