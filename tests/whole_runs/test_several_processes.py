"""A training on several processes equals that of one process with the same parts, in every bit."""

import json
import os
import random
import re
import sys
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import several
import torch
import torchmetrics
from divided import in_suite
from every_technique import PlainSession, Recorder, session_with
from hooks.test_metrics import LargestSum
from hooks.test_mini_batch_parts import NotePart
from matplotlib.figure import Figure
from tiny import TinyNetwork, TinySession, make_dataset, read_scalars
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from torchbase import BaseMetricsClass, ValidationDatasetsDict, hookimpl
from torchbase import hooks as techniques
from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.errors import MetricsError, NonFiniteError
from torchbase.files.bitwise import different_values
from torchbase.metrics import (
    BinaryClassificationMetrics,
    ImageReconstructionMetrics,
    ImageSegmentationMetrics,
    MulticlassClassificationMetrics,
    RegressionMetrics,
    TorchMetrics,
)
from torchbase.metrics.epoch_kinds import accumulated, figure_over_samples, mean_over_samples


@cache  # filled before the processes are forked
def dataset(rows, offset=0.0):
    return make_dataset(rows, offset)


class Session(TinySession):
    """Two iterations an epoch. Batch normalization needs two samples a part; the sets of validation may have fewer."""

    rows = 40

    def init_datasets(self):
        return dataset(self.rows), ValidationDatasetsDict(
            datasets=(dataset(14, 0.1), dataset(7, 0.2)), only_for_demo=(False, True), names=("valid", "seven")
        )


class Uneven(Session, PlainSession):
    """The last mini-batch of an epoch has 3 samples, fewer than parts."""

    rows = 43
    architecture = PlainSession.architecture


class Even(Uneven):
    rows = 40


class Few(Uneven):
    """A process may have no part at all."""

    rows = 5


class Queue:
    """A hook whose state the forward passes change."""

    def __init__(self):
        self.means = []

    @hookimpl(wrapper=True)
    def run_forward(self, phase):
        loss = yield
        self.means = [*self.means, phase.outputs["output"].mean().detach()][-3:]
        return loss

    def state_dict(self):
        return {"means": self.means}

    def load_state_dict(self, state):
        self.means = state["means"]


class Draws:
    """Draws a random number after each iteration, also after one that is skipped."""

    def __init__(self):
        self.numbers = []

    @hookimpl
    def on_iteration_end(self):
        self.numbers.append(torch.rand(()).item())

    def state_dict(self):
        return {"numbers": self.numbers}

    def load_state_dict(self, state):
        self.numbers = state["numbers"]


class OutOfMemoryInLastPart(NotePart):
    """Runs out of memory in the last part of the second iteration, unless a part of it is passed."""

    def __init__(self):
        self.session = self

    @hookimpl(wrapper=True)
    def run_forward(self, run, phase, batch):
        loss = yield
        if phase.is_training and run.progress.iterations == 1 and self.part == 7 and len(batch["x"]) > 1:
            raise torch.OutOfMemoryError("as on a GPU")
        return loss


class StatefulNetwork(TinyNetwork):
    """Its forward pass changes a buffer, a frozen parameter and the extra state."""

    def __init__(self, dropout):
        super().__init__(dropout)
        self.register_buffer("largest", torch.zeros(()))
        self.mean = torch.nn.Parameter(torch.zeros(3), requires_grad=False)
        self.passes = 0

    def forward(self, x):
        self.largest = torch.maximum(self.largest, x.max())
        self.mean.mul_(0.9).add_(x.mean(dim=0), alpha=0.1)
        self.passes += len(x)
        return super().forward(x) + self.mean.sum()

    def get_extra_state(self):
        return {"passes": self.passes}

    def set_extra_state(self, state):
        self.passes = state["passes"]


class Stateful(Session):
    """Changes state in forward passes, logs in some parts only, and trains a parameter outside of the network."""

    architecture = "StatefulNetwork"

    def init_network(self):
        self.weight = torch.nn.Parameter(torch.ones(()))
        return StatefulNetwork(self.config_network["dropout"])

    def init_optimizer(self):
        return torch.optim.SGD([*self.network.parameters(), self.weight], lr=0.05, momentum=0.9)

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        if outputs["output"].mean() > 0:
            self.log("positive", outputs["output"].mean())
        return outputs

    def loss_function(self, *, output, target):
        error = torch.nn.functional.mse_loss(output * self.weight, target)
        return {"loss": error + 0.1 * self.weight**2, "error": error}


class Streamed(Uneven):
    """Reads a stream, whose shards belong to the parts."""

    def init_datasets(self):
        training, validation = super().init_datasets()
        streams = tuple(one.to_iterable_dataset(num_shards=5) for one in validation.datasets)
        return training.to_iterable_dataset(num_shards=8), replace(validation, datasets=streams)


class OwnLoader(Session):
    """Has a loader of its own, of which each process reads whole mini-batches."""

    def init_dataloaders(self):
        _, validation = super().init_dataloaders()
        return DataLoader(self.dataset_train.with_format("torch"), batch_size=20, shuffle=True), validation


class Picture(Session):
    """Has a picture in its mini-batches, and returns one."""

    def dataloader_collate_function(self, samples):
        x, y = (torch.stack([sample[name] for sample in samples]) for name in ("x", "y"))
        return {"x": x, "y": y, "column": x[:, None, None]}

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        return {**outputs, "picture": outputs["output"][:, None, None].sigmoid()}


class Within(Picture):
    """Validates within its epochs."""

    rows = 80

    def init_datasets(self):
        training, validation = super().init_datasets()
        return training, replace(validation, every=("2it", "3it"))


class Augmented(Session):
    """Draws from each random stream while it reads."""

    def dataloader_collate_function(self, samples):
        x = torch.stack([sample["x"] for sample in samples])
        x = x + 0.1 * torch.randn_like(x) + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return {"x": x, "y": torch.stack([sample["y"] for sample in samples])}


class OwnSizes(Uneven):
    """Weights samples by their length, as tokens weight texts."""

    def infer_mini_batch_size(self, mini_batch):
        return int(sum(len(name) for name in mini_batch["name"]))


class Weighed(Session):
    """Its loss is a mean over some of its samples, of which a part may have none."""

    def loss_function(self, *, output, target):
        counts = target > 0
        error = ((output - target).square() * counts).sum() / counts.sum()
        return {"loss": error, "half": error / 2}

    def infer_loss_weight(self, mini_batch):
        return (mini_batch["y"] > 0).sum() / 3  # a number that rounds


class WeighedOwnLoader(Weighed, OwnLoader):
    """Each process infers the weights of whole mini-batches."""


class Distances(BaseMetricsClass):
    """A metric of each kind."""

    def median(self, *, output, target):
        return (output - target).abs().median()

    @mean_over_samples
    def squared(self, *, output, target):
        return (output - target).square().mean()

    @accumulated(lambda metrics: LargestSum())
    def largest_sum(self, *, output, target):
        return (output + target).max()

    @figure_over_samples
    def scatter(self, *, output, target):
        figure = Figure()
        figure.add_subplot().scatter(output.numpy(), target.numpy())
        return figure


class Measured(Session):
    """Has metrics of each kind and family."""

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        image = torch.sigmoid(outputs["output"]).view(-1, 1, 1, 1).expand(-1, 1, 12, 12)
        return {
            **outputs,
            "picture": image + 0.1 * torch.rand_like(image),
            "target_picture": torch.sigmoid(outputs["target"]).view(-1, 1, 1, 1).expand_as(image),
            "scores": torch.stack([outputs["output"], outputs["target"]], dim=1).softmax(dim=1),
            "label": (outputs["target"] > 0).long(),
            "probability": torch.sigmoid(outputs["output"]),
        }

    def init_metrics(self):
        return [
            Distances(),
            BinaryClassificationMetrics({"label": "binary_ground_truth", "probability": "prediction_probabilities"}),
            MulticlassClassificationMetrics({"label": "class_ground_truth", "scores": "class_scores"}),
            RegressionMetrics({"target": "target_values", "output": "predicted_values"}),
            ImageReconstructionMetrics({"target_picture": "target_image", "picture": "output_image"}),
            ImageSegmentationMetrics({"label": "target_binary_image", "probability": "output_binary_image"}),
            TorchMetrics(
                {"error": torchmetrics.MeanSquaredError(), "pearson": torchmetrics.PearsonCorrCoef()},
                {"output": "preds"},
            ),
        ]


METRICS = {
    "Distances": ["median", "squared", "largest_sum", "scatter"],
    "BinaryClassificationMetrics": ["roc_auc", "log_loss"],
    "MulticlassClassificationMetrics": ["accuracy", "confusion_matrix"],
    "RegressionMetrics": ["r2_score", "median_absolute_error"],
    "ImageReconstructionMetrics": ["psnr", "ssim"],
    "ImageSegmentationMetrics": ["dice_score"],
    "TorchMetrics": ["error", "pearson"],
}


class NanInLastPart(Session):
    """The loss of the second iteration is NaN in the last of 8 parts, which the last process computes."""

    part = None

    def default_hooks(self):
        return [*super().default_hooks(), NotePart(self)]

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        if self.network.training and self._run.progress.iterations == 1 and self.part == 7:
            outputs["output"] = outputs["output"] * torch.nan
        return outputs


@dataclass(frozen=True)
class Case:
    kind: type = Session
    hooks: Any = list
    parts: int = 8
    metrics: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)


def case(*makers, kind=Session, **settings):
    return Case(kind, lambda: [maker() for maker in makers], settings=settings)


def per_epoch(optimizer):
    return ExponentialLR(optimizer, 0.5)


def on_plateau(optimizer):
    return ReduceLROnPlateau(optimizer, patience=0, threshold=10.0)


EVERYTHING = [
    lambda: techniques.ActivationCheckpointing("layers.0"),
    lambda: techniques.GradientAccumulation(2),
    lambda: techniques.ExponentialMovingAverage(0.8, use_buffers=True),
    lambda: techniques.GradientClipping(norm=0.5),
    lambda: techniques.Compile(backend="eager"),
    lambda: techniques.EarlyStopping("loss", "training", patience=2, min_delta=0.2),
    lambda: techniques.MixedPrecision("fp16"),
    lambda: techniques.Freeze("layers.0.*"),
    lambda: techniques.LogGradients("2it"),
    lambda: techniques.LogSamples(6, ["picture"]),
    lambda: techniques.LearningRateSchedule(per_epoch, "1it"),
    lambda: techniques.TimeLimit("1000s"),
    techniques.HookTimes,
    lambda: techniques.Unfreeze("layers.0.weight", at="1ep"),
    lambda: techniques.LogWeights("3it"),
    lambda: techniques.Fingerprint("2it"),
    techniques.JsonLines,
    techniques.CsvLog,
]
CASES = {
    "plain": case(),
    "fewer samples than parts": case(kind=Uneven),
    "sizes of its own": case(kind=OwnSizes),
    "weights of its own": case(lambda: techniques.GradientAccumulation(2), kind=Weighed),
    "weights of its own of whole mini-batches": case(kind=WeighedOwnLoader),
    "augmented": case(kind=Augmented),
    "augmented by workers": case(kind=Augmented, dataloader_num_workers=2, num_epochs=1),
    "validated within": case(kind=Within),
    "stream": case(kind=Streamed),
    "stream with techniques": case(
        lambda: techniques.GradientAccumulation(2), lambda: techniques.MixedPrecision("fp16"), kind=Streamed
    ),
    "loader of its own": case(kind=OwnLoader),
    "four parts": Case(parts=4),
    "metrics": Case(Measured, metrics=METRICS, settings={"metrics_every_n_iterations": 2, "num_epochs": 1}),
    "clipping by value": case(lambda: techniques.GradientClipping(value=0.1)),
    "accumulation": case(lambda: techniques.GradientAccumulation(2), kind=Uneven, num_epochs=3),
    "accumulation of few rows": case(lambda: techniques.GradientAccumulation(2), kind=Few, num_epochs=3),
    "state of forward passes": case(Queue, kind=Stateful),
    "accumulation validated within": case(lambda: techniques.GradientAccumulation(2), kind=Within),
    "schedule by epochs": case(lambda: techniques.LearningRateSchedule(per_epoch)),
    "plateau": case(lambda: techniques.LearningRateSchedule(on_plateau, monitor="loss", phase="validation-valid")),
    "bf16": case(lambda: techniques.MixedPrecision("bf16")),
    "fp16": case(lambda: techniques.MixedPrecision("fp16"), kind=Few, num_epochs=6),
    "early stopping": case(lambda: techniques.EarlyStopping("loss", "validation-valid", patience=1, min_delta=5.0)),
    "retry": case(OutOfMemoryInLastPart, techniques.RetryOnOutOfMemory, kind=Even),
    "samples": case(lambda: techniques.LogSamples(6, ["picture", "column"]), kind=Picture),
    "graph": case(techniques.NetworkGraph),
    "profile": case(lambda: techniques.Profile(range(2, 3))),
    "NaN is skipped": case(Draws, kind=NanInLastPart, nan_policy="skip"),
    "NaN stops": case(kind=NanInLastPart, nan_policy="stop"),
    "everything": Case(Picture, lambda: [make() for make in EVERYTHING], settings={"num_epochs": 3}),
    "everything validated within": Case(Within, lambda: [make() for make in EVERYTHING]),
}


WITH_TIMES = ("tensorboard", "time_limit", "json_lines", "csv_log")
NOTHING = {"histograms": {}, "images": {}, "files": []}


def train(index, parent, case):
    """Trains, and returns what each process has in memory at the end."""
    recorder, written = Recorder(), [] if index == 0 else note_files_written_in(parent)
    settings = {"mini_batch_size": 20, "mini_batch_parts": case.parts, **case.settings}
    session = session_with(
        parent, *case.hooks(), recorder, kind=case.kind, dropout=0.3, metrics=case.metrics, **settings
    )
    summary = session()
    if index == 0:
        session._run_directory.writes.wait()
    state = {
        "network": session.network.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "averages": {phase: dict(averages) for phase, averages in summary.averages.items()},
        "best losses": {phase: (best.loss, best.epoch) for phase, best in summary.best_losses.items()},
        "stop": summary.stop_reason,
    }
    return state, {"histograms": recorder.histograms, "images": recorder.images, "files": written}


def note_files_written_in(folder):
    """Returns a list, to which each file is added that this process opens for writing."""
    files = []

    def note(event, arguments):
        if event == "open" and isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(str(folder)):
            path, mode, flags = arguments
            if set(mode or "") & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR):
                files.append(str(path))

    sys.addaudithook(note)  # for as long as the process lives
    return files


def on_disk(parent):
    """Returns what a run has written, except times and names of processes."""
    (folder,) = parent.iterdir()
    saved = newest_whole_checkpoint(folder / "states")
    hooks = saved.parts["training"].pop("hooks")
    best = folder / "network.pth"
    return {
        "network": saved.parts["network"],
        "training": saved.parts["training"],
        "hooks": {name: state for name, state in hooks.items() if name not in WITH_TIMES},
        "best network": torch.load(best, weights_only=True) if best.exists() else None,
        "scalars": read_scalars(folder),
        "files": {name_of(path, folder): content_of(path) for path in folder.rglob("*")},
    }


def name_of(path, folder):
    return re.sub(r"(events\.).*|\d{12}_", r"\1", str(path.relative_to(folder)))


def content_of(path):
    if path.parent.name == "bad_mini_batches":
        return torch.load(path, weights_only=True)
    if path.suffix == ".jsonl":
        return [{**json.loads(line), "time": None, "file": None} for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        return path.read_text()
    return path.read_bytes() if path.suffix == ".png" else None


ON_THREE = ["fewer samples than parts", "stream", "metrics", "accumulation of few rows", "everything"]
REPEATED = [  # by other cases, most by "everything"
    *("plain", "four parts", "stream with techniques", "accumulation", "schedule by epochs", "bf16"),
    *("everything validated within", "weights of its own of whole mini-batches"),
]
COUNTS = list(product(CASES, (2, 3)))


@pytest.mark.parametrize(
    ("name", "count"),
    in_suite(COUNTS, *((name, 3 if name in ON_THREE else 2) for name in CASES if name not in REPEATED)),
)
def test_several_processes_train_as_one(tmp_path, name, count):
    case = CASES[name]
    expected, logged = train(0, tmp_path / "1", case)
    results = several.values_of(count, train, tmp_path / str(count), case)
    for index, (state, recorded) in enumerate(results):
        assert different_values(state, expected) == [], f"process {index} of {count}"
        assert different_values(recorded, logged if index == 0 else NOTHING) == []
    assert different_values(on_disk(tmp_path / str(count)), on_disk(tmp_path / "1")) == []


@pytest.mark.parametrize("count", in_suite([4, 8], 8))
def test_as_many_processes_as_parts_train_as_one(tmp_path, count):
    shared = case(lambda: techniques.GradientClipping(norm=0.5), kind=Augmented)
    expected, _ = train(0, tmp_path / "1", shared)
    for state, _ in several.values_of(count, train, tmp_path / str(count), shared):
        assert different_values(state, expected) == []
    assert different_values(on_disk(tmp_path / str(count)), on_disk(tmp_path / "1")) == []


def raised(index, parent):
    with pytest.raises(NonFiniteError, match="The loss is nan in training: epoch 1, iteration 2"):
        train(index, parent, case(kind=NanInLastPart))
    return "raised"


def test_a_loss_that_is_not_finite_on_one_process_ends_all(tmp_path):
    assert several.values_of(2, raised, tmp_path / "2") == ["raised"] * 2
    assert raised(0, tmp_path / "1")
    for first, second in zip(*(sorted((tmp_path / count).glob("*/bad_mini_batches/*")) for count in "12"), strict=True):
        assert different_values(content_of(first), content_of(second)) == []
        assert len(content_of(first)["values"][0]) == 8  # the parts of all processes


def stopped_by_the_clock(index, parent):
    state, _ = train(index, parent, case(lambda: techniques.TimeLimit("0.000001s"), num_epochs=1000))
    return state["stop"], state["optimizer"]


def test_the_clock_of_one_process_stops_all(tmp_path):
    first, second = several.values_of(2, stopped_by_the_clock, tmp_path)
    assert different_values(first, second) == []
    assert first[0] == "the time limit of 1e-06s is reached"


def without_keys(index, parent):
    def measured(unregistered):
        session = session_with(parent, kind=Lacking, metrics={"Distances": ["median"]}, mini_batch_size=20)
        for name in unregistered:
            session.unregister(name)
        with pytest.raises(MetricsError, match="need keys that forward_pass did not return"):
            session()

    measured([])
    measured(["rehearsal"])


class Lacking(Session):
    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        return {"output": outputs["output"], "expected": outputs["target"]}

    def loss_function(self, *, output, expected):
        return torch.nn.functional.mse_loss(output, expected)

    def init_metrics(self):
        return [Distances()]


def test_outputs_that_a_metric_lacks_are_an_error_on_each_process(tmp_path):
    several.values_of(2, without_keys, tmp_path)
