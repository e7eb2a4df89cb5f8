"""A training on several processes equals that of one process with the same parts, in every bit."""

import random
import re
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import several
import torch
import torchmetrics
from every_technique import PlainSession, Recorder, session_with
from hooks.test_metrics import LargestSum
from matplotlib.figure import Figure
from tiny import TinySession, make_dataset, read_scalars
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau

from torchbase import BaseMetricsClass, ValidationDatasetsDict
from torchbase import hooks as techniques
from torchbase.checkpoints.storage import newest_whole_checkpoint
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


class Picture(Session):
    def forward_pass(self, mini_batch):
        return {**super().forward_pass(mini_batch), "picture": mini_batch["x"][:, None]}


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


class NanInOnePart(Session):
    """A sample that another process than the main one computes makes the second loss NaN."""

    row = 39

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        is_bad = torch.tensor([name == str(self.row) for name in mini_batch["name"]])
        if self.network.training and is_bad.any() and self._run.progress.iterations == self._run.epoch * 2 - 1:
            outputs["output"] = torch.where(is_bad, torch.nan, outputs["output"])
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
    techniques.JsonLines,
    techniques.CsvLog,
]
CASES = {
    "plain": case(),
    "fewer samples than parts": case(kind=Uneven),
    "sizes of its own": case(kind=OwnSizes),
    "augmented": case(kind=Augmented),
    "augmented by workers": case(kind=Augmented, dataloader_num_workers=2),
    "validated within": case(kind=Within),
    "four parts": Case(parts=4),
    "metrics": Case(Measured, metrics=METRICS, settings={"metrics_every_n_iterations": 2}),
    "clipping": case(lambda: techniques.GradientClipping(norm=0.5)),
    "clipping by value": case(lambda: techniques.GradientClipping(value=0.1)),
    "accumulation": case(lambda: techniques.GradientAccumulation(2), kind=Uneven, num_epochs=3),
    "accumulation validated within": case(lambda: techniques.GradientAccumulation(2), kind=Within),
    "schedule by epochs": case(lambda: techniques.LearningRateSchedule(per_epoch)),
    "schedule by steps": case(lambda: techniques.LearningRateSchedule(per_epoch, "1it")),
    "plateau": case(lambda: techniques.LearningRateSchedule(on_plateau, monitor="loss", phase="validation-valid")),
    "bf16": case(lambda: techniques.MixedPrecision("bf16")),
    "fp16": case(lambda: techniques.MixedPrecision("fp16"), kind=Uneven),
    "average": case(lambda: techniques.ExponentialMovingAverage(0.8, use_buffers=True)),
    "early stopping": case(lambda: techniques.EarlyStopping("loss", "validation-valid", patience=1, min_delta=5.0)),
    "freeze": case(lambda: techniques.Freeze("layers.0.*"), lambda: techniques.Unfreeze("layers.0.bias", "1ep")),
    "compile": case(lambda: techniques.Compile(backend="eager")),
    "retry": case(techniques.RetryOnOutOfMemory),
    "time limit": case(lambda: techniques.TimeLimit("1000s")),
    "no time": case(lambda: techniques.TimeLimit("0.000001s")),
    "samples": case(lambda: techniques.LogSamples(6, ["x", "picture"]), kind=Picture),
    "histograms": case(lambda: techniques.LogGradients("1it"), lambda: techniques.LogWeights("1ep")),
    "graph": case(techniques.NetworkGraph),
    "times": case(techniques.HookTimes),
    "profile": case(lambda: techniques.Profile(range(2, 3))),
    "logs": case(techniques.JsonLines, techniques.CsvLog),
    "NaN is skipped": case(kind=NanInOnePart, nan_policy="skip"),
    "NaN stops": case(kind=NanInOnePart, nan_policy="stop"),
    "everything": Case(Picture, lambda: [make() for make in EVERYTHING], settings={"num_epochs": 4}),
    "everything validated within": Case(Within, lambda: [make() for make in EVERYTHING]),
}


WITH_TIMES = ("tensorboard", "time_limit", "json_lines", "csv_log")
NOTHING = {"histograms": {}, "images": {}}


def train(index, parent, case):
    """Trains, and returns what each process has in memory at the end."""
    recorder = Recorder()
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
    return state, {"histograms": recorder.histograms, "images": recorder.images}


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
        "votes": (folder / "votes.jsonl").read_text(),
        "epochs": (folder / "epochs.jsonl").read_text(),
        "files": sorted(
            re.sub(r"events\.out.*", "events", str(path.relative_to(folder))) for path in folder.rglob("*")
        ),
    }


@pytest.mark.parametrize("name", CASES)
def test_several_processes_train_as_one(tmp_path, name):
    case = CASES[name]
    expected, logged = train(0, tmp_path / "1", case)
    for count in (2, 3):
        results = several.values_of(count, train, tmp_path / str(count), case)
        for index, (state, recorded) in enumerate(results):
            assert different_values(state, expected) == [], f"process {index} of {count}"
            assert different_values(recorded, logged if index == 0 else NOTHING) == []
        assert different_values(on_disk(tmp_path / str(count)), on_disk(tmp_path / "1")) == []
