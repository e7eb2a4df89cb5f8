import logging
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, TinySession, config_with, make_dataset

from torchbase import BaseMetricsClass, Engine, Phase, Run, ValidationDatasetsDict, hookimpl
from torchbase.errors import MetricsError, StepError
from torchbase.hooks import Freeze, Rehearsal, Unfreeze


class RecordFiles:
    """Records the names of the files in the run directory when an error ends the run."""

    def __init__(self):
        self.names = None

    @hookimpl
    def on_exception(self, run):
        self.names = {path.name for path in run.run_directory.path.iterdir()}


def error_of(session_class, tmp_path, error, **session):
    session = session_class(config_with(**session), tmp_path)
    session.register(RecordFiles())
    with pytest.raises(error) as caught:
        session()
    files = {"config.json", "environment.json", "status.json", "hooks.json"}
    assert session.hooks["record_files"].names == {*files, "states", ".lock", ".holder.json"}
    assert not Path(session.run_dir).exists()
    return caught.value


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_validation_is_raised_before_training_with_the_columns(tmp_path, workers):
    class Lacking(TinySession):
        def init_datasets(self):
            return make_dataset(), ValidationDatasetsDict(
                datasets=(make_dataset().remove_columns("y"),), only_for_demo=(False,), names=("valid",)
            )

    error = error_of(Lacking, tmp_path, KeyError, dataloader_num_workers=workers)
    assert error.__notes__[0] == (
        "before training, with the first mini-batch of validation-valid: x: torch.float32 of shape (4, 3), "
        "name: list of 4 str; training also has ['y']"
    )


def test_a_wrong_shape_raises_before_training(tmp_path):
    class Wrong(TinySession):
        def forward_pass(self, mini_batch):
            return super().forward_pass({**mini_batch, "x": mini_batch["x"][:, :2]})

    error = error_of(Wrong, tmp_path, RuntimeError)
    assert "x: torch.float32 of shape (4, 3)" in error.__notes__[0]


def test_a_loss_without_a_gradient_raises_before_training(tmp_path):
    class Wrong(TinySession):
        def loss_function(self, *, output, target):
            return (output - target).square().mean().detach()

    assert "does not require a gradient" in str(error_of(Wrong, tmp_path, StepError))


def test_a_missing_argument_of_a_metric_raises_before_training(tmp_path):
    class Distance(BaseMetricsClass):
        def distance(self, *, outputs, target):
            return 0.0

    class Measured(TinySession):
        def init_metrics(self):
            return [Distance()]

    session = Measured({**CONFIG, "metrics": {"Distance": ["distance"]}}, tmp_path)
    with pytest.raises(MetricsError, match=r"'outputs', for .* Did you mean 'output'\?"):
        session()


def test_the_rehearsal_changes_no_weights_and_logs_nothing(tmp_path):
    class Logging(TinySession):
        def forward_pass(self, mini_batch):
            self.log("drawn", torch.rand(()))
            return super().forward_pass(mini_batch)

    with_it, without = Logging(CONFIG, tmp_path), Logging(CONFIG, tmp_path)
    without.unregister("rehearsal")
    assert with_it().averages == without().averages
    for name, value in without.network.state_dict().items():
        assert torch.equal(value, with_it.network.state_dict()[name]), name


def test_an_iterator_loses_no_mini_batch():
    network = torch.nn.Linear(1, 1)
    seen = []
    run = Run(training=Phase("training", iter([1, 2]), is_training=True), max_epochs=1, network=network)
    Engine(lambda run, phase, batch: seen.append(batch), hooks=[Rehearsal()]).run(run)
    assert seen == [1, 2]


def test_a_finished_run_is_not_rehearsed(tmp_path):
    class Counting(TinySession):
        passes = 0

        def forward_pass(self, mini_batch):
            self.passes += 1
            return super().forward_pass(mini_batch)

    session = Counting(CONFIG, tmp_path)
    session()
    passes = session.passes
    session()
    assert session.passes == passes


def test_the_names_of_the_logged_values_are_stored_on_the_phases(tmp_path):
    class Distance(BaseMetricsClass):
        def distance(self, *, output, target):
            return 0.0

    class Measured(TinySession):
        def forward_pass(self, mini_batch):
            self.log("drawn", 1.0)
            return super().forward_pass(mini_batch)

        def init_metrics(self):
            return [Distance()]

    seen = []

    class RecordNames:
        @hookimpl
        def on_epoch_start(self, run):
            seen.extend(phase.value_names for phase in run.phases)

    session = Measured({**config_with(num_epochs=1), "metrics": {"Distance": ["distance"]}}, tmp_path)
    session.register(RecordNames())
    session()
    assert {names.of_iterations for names in seen} == {("drawn", "loss", "distance")}
    assert {names.of_epochs for names in seen} == {("drawn", "loss", "distance")}


class SizedSession(TinySession):
    """Has 9 samples for training and 10 for validation, in mini-batches of 4."""

    training, valid = 9, 10

    def init_datasets(self):
        return make_dataset(self.training), ValidationDatasetsDict(
            datasets=(make_dataset(self.valid),), only_for_demo=(False,), names=("valid",)
        )


def test_batch_normalization_of_a_single_sample_raises_before_training(tmp_path):
    error = error_of(SizedSession, tmp_path, ValueError)
    assert "more than 1 value per channel" in str(error)
    assert (
        "before training, with the last mini-batch of training: x: torch.float32 of shape (1, 3)" in error.__notes__[0]
    )
    assert "it is shorter than the others. To fix, choose a mini-batch size" in error.__notes__[0]


def test_a_shorter_mini_batch_of_validation_is_tried(tmp_path):
    class Wrong(SizedSession):
        training = 8

        def forward_pass(self, mini_batch):
            if len(mini_batch["x"]) != 4:
                raise ValueError("wrong")
            return super().forward_pass(mini_batch)

    error = error_of(Wrong, tmp_path, ValueError)
    assert "with the last mini-batch of validation-valid: x: torch.float32 of shape (2, 3)" in error.__notes__[0]


@pytest.mark.parametrize(("training", "passes"), [(8, 2), (10, 3), (3, 2)])
def test_the_last_mini_batch_is_tried_if_it_is_shorter(tmp_path, training, passes):
    class Counting(SizedSession):
        valid, seen = 4, 0

        def forward_pass(self, mini_batch):
            self.seen += 1
            return super().forward_pass(mini_batch)

    class Stop:
        @hookimpl
        def on_epoch_start(self, run):
            run.request_stop("for the test")

    Counting.training = training
    session = Counting(CONFIG, tmp_path)
    session.register(Stop())
    session()
    assert session.seen == passes


ALL = ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias", "layers.3.weight", "layers.3.bias"]
HEAD = ["layers.3.weight", "layers.3.bias"]


def lacking(caplog):
    """The names in the warnings of parameters that the optimizer lacks, one list for each warning."""
    marker = "since it doesn't hold them: "
    texts = [record.getMessage() for record in caplog.records if marker in record.getMessage()]
    return [text.partition(marker)[2].partition(". To fix")[0].replace("'", "").split(", ") for text in texts]


class ThawAll:
    """Unfreezes everything in the second epoch, as a hook of a user may."""

    @hookimpl
    def on_epoch_start(self, run):
        if run.epoch == 2:
            run.network.requires_grad_(True)


@pytest.mark.parametrize(
    ("held", "frozen", "hooks", "expected"),
    [
        (ALL, [], (), []),
        (HEAD, [], (), [[*ALL[:4]]]),
        (HEAD, ALL[:4], (), []),
        (HEAD, [], (lambda: Freeze("layers.[01].*"),), []),
        (HEAD, [], (lambda: Freeze("layers.0.*"),), [ALL[2:4]]),
        (ALL, ALL[:4], (lambda: Unfreeze("layers.0.*", "1ep"),), []),
        (HEAD, ALL[:4], (ThawAll,), [ALL[:4]]),
    ],
)
def test_parameters_that_the_optimizer_lacks_are_named_once_before_they_would_train(
    tmp_path, caplog, held, frozen, hooks, expected
):
    class Some(TinySession):
        def init_network(self):
            network = super().init_network()
            for name in frozen:
                network.get_parameter(name).requires_grad_(False)
            return network

        def init_optimizer(self):
            return torch.optim.SGD([self.network.get_parameter(name) for name in held], lr=0.1)

    session = Some(CONFIG, tmp_path)
    for make in hooks:
        session.register(make())
    with caplog.at_level(logging.WARNING, "torchbase"):
        session()
    assert lacking(caplog) == expected
