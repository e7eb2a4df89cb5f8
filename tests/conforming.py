"""A run that logs every kind of record, and for each backend a function that reads back what it recorded."""

import csv
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from tiny import CONFIG, TinySession

from torchbase import BaseMetricsClass, hookimpl
from torchbase.hooks import CsvLog, JsonLines, MLflow, TensorBoard, Wandb

# These packages would report each use to their makers.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", WANDB_ERROR_REPORTING="false", WANDB_DISABLE_GIT="true")

SESSION = {
    **CONFIG["session"],
    "num_epochs": 3,
    "on_logging_error": "raise",
    "checkpoint_every_n_iterations": 4,
    "metrics_every_n_iterations": 2,
}
CONFORMING_CONFIG = {**CONFIG, "session": SESSION, "metrics": {"Errors": ["absolute_error"]}}


class Errors(BaseMetricsClass):
    def absolute_error(self, *, output, target):
        return (output - target).abs().mean().item()


class ConformingSession(TinySession):
    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        self.log("largest", outputs["output"].max())
        return outputs

    def init_metrics(self):
        return [Errors()]


class LogEverything:
    """Logs texts, images, figures and histograms at the end of each epoch, and numbers that JSON can't represent."""

    @hookimpl
    def on_epoch_end(self, run):
        draw = np.random.default_rng(run.epoch)
        run.call.log_text(run=run, tag="note", text=f'after epoch {run.epoch}: **ä** "quoted"\nline', step=run.epoch)
        run.call.log_image(run=run, tag="some/picture", image=draw.random((3, 4, 5)), step=run.epoch)
        figure = Figure(figsize=(1, 1), dpi=20)
        figure.add_subplot().plot([1, run.epoch])
        run.call.log_figure(run=run, tag="plot", figure=figure, step=run.epoch)
        run.call.log_histogram(run=run, tag="weights", values=torch.linspace(0, run.epoch, 50), step=run.epoch)
        odd = {'odd, "tag"': float("nan"), "high": float("inf"), "low": -float("inf"), "exact": 0.1 * run.epoch}
        run.call.log_scalars(run=run, scalars=odd, step=run.epoch)


class Truth:
    """Records what was logged, in the form that the readers below return."""

    def __init__(self):
        self.log = {"scalars": {}, "texts": {}, "images": {}, "histograms": {}, "hparams": {}}

    @hookimpl
    def log_scalars(self, scalars, step):
        for tag, value in scalars.items():
            self.log["scalars"].setdefault(tag, []).append((step, value))

    @hookimpl
    def log_text(self, tag, text, step):
        self.log["texts"].setdefault(tag, []).append((step, text))

    @hookimpl
    def log_image(self, tag, image, step):
        self.log["images"].setdefault(tag, []).append((step, (image.shape[1], image.shape[2])))

    @hookimpl
    def log_figure(self, tag, step):
        self.log["images"].setdefault(tag, []).append((step, (20, 20)))

    @hookimpl
    def log_histogram(self, tag, values, step):
        self.log["histograms"].setdefault(tag, []).append((step, len(values)))

    @hookimpl
    def log_hparams(self, hparams):
        self.log["hparams"] = dict(hparams)


def read_tensorboard(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    kinds = ("scalars", "images", "histograms", "tensors")
    events = EventAccumulator(str(run_dir), size_guidance=dict.fromkeys(kinds, 0)).Reload()
    tags = events.Tags()
    start = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(start).session_start_info.hparams
    return {
        "scalars": {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags["scalars"]},
        "texts": {
            tag.removesuffix("/text_summary"): [
                (event.step, event.tensor_proto.string_val[0].decode()) for event in events.Tensors(tag)
            ]
            for tag in tags["tensors"]
            if tag.endswith("/text_summary")
        },
        "images": {
            tag: [(event.step, (event.height, event.width)) for event in events.Images(tag)] for tag in tags["images"]
        },
        "histograms": {
            tag: [(event.step, event.histogram_value.num) for event in events.Histograms(tag)]
            for tag in tags["histograms"]
        },
        "hparams": {name: getattr(value, value.WhichOneof("kind")) for name, value in hparams.items()},
    }


def read_json_lines(run_dir):
    from PIL import Image

    log = {"scalars": {}, "texts": {}, "images": {}, "histograms": {}, "hparams": {}}
    for line in Path(run_dir, "log.jsonl").read_text().splitlines():
        record = json.loads(line, parse_constant=lambda name: sys.exit(f"{name} isn't JSON"))
        match record["kind"]:
            case "scalar":
                log["scalars"].setdefault(record["tag"], []).append((record["step"], float(record["value"])))
            case "text":
                log["texts"].setdefault(record["tag"], []).append((record["step"], record["text"]))
            case "image" | "figure":
                with Image.open(Path(run_dir, record["file"])) as image:
                    width, height = image.size
                log["images"].setdefault(record["tag"], []).append((record["step"], (height, width)))
            case "histogram":
                log["histograms"].setdefault(record["tag"], []).append((record["step"], sum(record["counts"])))
            case "hparams":
                log["hparams"] = record["hparams"]
    return log


def read_csv_log(run_dir):
    scalars = {}
    with Path(run_dir, "scalars.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            scalars.setdefault(row["tag"], []).append((int(row["step"]), float(row["value"])))
    return {"scalars": scalars}


def read_mlflow(run_dir):
    from mlflow import MlflowClient
    from PIL import Image

    saved = json.loads(Path(run_dir, "mlflow.json").read_text())
    client, run_id = MlflowClient(saved["tracking_uri"]), saved["run_id"]
    data, artifacts = client.get_run(run_id).data, Path(client.get_run(run_id).info.artifact_uri)
    log = {"scalars": {}, "texts": {}, "images": {}, "hparams": data.params}
    for name in data.metrics:
        history = client.get_metric_history(run_id, name)
        log["scalars"][name] = sorted((metric.step, metric.value) for metric in history)
    for path in sorted(artifacts.rglob("*.*")):
        folder, _, tag = path.parent.relative_to(artifacts).as_posix().partition("/")
        if folder == "texts":
            log["texts"].setdefault(tag, []).append((int(path.stem), path.read_text(encoding="utf-8")))
        else:
            with Image.open(path) as image:
                log["images"].setdefault(tag, []).append((int(path.stem), image.size[::-1]))
    return log


def read_wandb(run_dir):
    from torchbase.logging_backends.wandb_file import WandbFile

    log = {"scalars": {}, "texts": {}, "images": {}, "histograms": {}}
    for path in sorted(Path(run_dir).glob("wandb/*run-*/*.wandb")):
        for row in WandbFile(path).new_rows():
            (step,) = [value for key, value in row.items() if key.startswith("steps/")]
            for tag, value in row.items():
                match value:
                    case {"_type": "image-file"}:
                        assert Path(path.parent, "files", value["path"]).exists()
                        log["images"].setdefault(tag, []).append((step, (value["height"], value["width"])))
                    case {"_type": "histogram"}:
                        log["histograms"].setdefault(tag, []).append((step, sum(value["values"])))
                    case str() if tag == "note":
                        log["texts"].setdefault(tag, []).append((step, value))
                    case _ if not tag.startswith(("_", "steps/")):
                        log["scalars"].setdefault(tag, []).append((step, float(value)))
    return log


def is_installed(package):
    return importlib.util.find_spec(package) is not None


def make_mlflow(run_dir_parent):
    return MLflow(f"sqlite:///{run_dir_parent}/mlflow.db")


BACKENDS = {
    "tensorboard": (lambda parent: TensorBoard(), read_tensorboard),
    "json_lines": (lambda parent: JsonLines(), read_json_lines),
    "csv_log": (lambda parent: CsvLog(), read_csv_log),
    "mlflow": (make_mlflow, read_mlflow),
    "wandb": (lambda parent: Wandb(mode="offline"), read_wandb),
}
INSTALLED = [name for name in BACKENDS if name not in ("mlflow", "wandb") or is_installed(name)]


class KillAt:
    """Kills the process after an iteration of a phase, when all records are on the disk."""

    def __init__(self, phase, iteration):
        self.phase, self.iteration = phase, iteration

    @hookimpl(trylast=True)
    def on_iteration_end(self, run, phase):
        if (phase.name, phase.progress.iterations) == (self.phase, self.iteration):
            run.read_values()
            time.sleep(1.0)  # twice as long as a backend's thread waits
            os.kill(os.getpid(), signal.SIGKILL)


def session_with_all_backends(parent, *hooks, workers=0):
    """Creates a session for a new run, or for resuming the existing run."""
    session_config = {**SESSION, "dataloader_num_workers": workers}
    runs = Path(parent, "runs")
    tags = sorted(path.name for path in runs.iterdir()) if runs.exists() else []
    resumed = {"create_run_dir_afresh": False, "source_run_dir_tag": tags[-1]} if tags else {}
    session = ConformingSession({**CONFORMING_CONFIG, "session": session_config}, runs, **resumed)
    session.unregister("tensorboard")
    session.unregister("console")
    for name in INSTALLED:
        session.register(BACKENDS[name][0](parent))
    for hook in (LogEverything(), *hooks):
        session.register(hook)
    return session


if __name__ == "__main__":  # starts or resumes a run, and kills it: PARENT PHASE ITERATION
    session_with_all_backends(sys.argv[1], KillAt(sys.argv[2], int(sys.argv[3])))()
