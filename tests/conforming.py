"""One run with everything that can be logged, and what each backend has of it, read by a reader of its own."""

import csv
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
from torchbase.hooks import CsvLog, JsonLines, TensorBoard

SESSION = {**CONFIG["session"], "num_epochs": 3, "checkpoint_every_n_iterations": 4, "metrics_every_n_iterations": 2}
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


class Tells:
    """Tells of everything but numbers at the end of each epoch, and of numbers that JSON has no word for."""

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
    """What was told, in the form that the readers give; a step that comes again takes the place of the former."""

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
    given = HParamsPluginData.FromString(start).session_start_info.hparams
    return {
        "scalars": {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in tags["scalars"]},
        "texts": {
            tag.removesuffix("/text_summary"): [
                (one.step, one.tensor_proto.string_val[0].decode()) for one in events.Tensors(tag)
            ]
            for tag in tags["tensors"]
            if tag.endswith("/text_summary")
        },
        "images": {tag: [(one.step, (one.height, one.width)) for one in events.Images(tag)] for tag in tags["images"]},
        "histograms": {
            tag: [(one.step, one.histogram_value.num) for one in events.Histograms(tag)] for tag in tags["histograms"]
        },
        "hparams": {name: getattr(value, value.WhichOneof("kind")) for name, value in given.items()},
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


BACKENDS = {
    "tensorboard": (TensorBoard, read_tensorboard),
    "json_lines": (JsonLines, read_json_lines),
    "csv_log": (CsvLog, read_csv_log),
}


class KillAt:
    """Kills the process behind an iteration of a phase, when everything that was logged is on the disk."""

    def __init__(self, phase, iteration):
        self.phase, self.iteration = phase, iteration

    @hookimpl(trylast=True)
    def on_iteration_end(self, run, phase):
        if (phase.name, phase.progress.iterations) == (self.phase, self.iteration):
            run.read_values()
            time.sleep(1.0)  # twice as long as a thread waits
            os.kill(os.getpid(), signal.SIGKILL)


def session_with_all_backends(parent, *hooks, workers=0):
    """Begins a run, or goes on with the one that is there."""
    session_config = {**SESSION, "dataloader_num_workers": workers}
    tags = sorted(path.name for path in Path(parent).iterdir() if path.is_dir())
    begun = {"create_run_dir_afresh": False, "source_run_dir_tag": tags[-1]} if tags else {}
    session = ConformingSession({**CONFORMING_CONFIG, "session": session_config}, parent, **begun)
    session.unregister("tensorboard")
    session.unregister("console")
    for backend, _ in BACKENDS.values():
        session.register(backend())
    for hook in (Tells(), *hooks):
        session.register(hook)
    return session


if __name__ == "__main__":  # one life of a run, which ends by being killed: PARENT PHASE ITERATION
    session_with_all_backends(sys.argv[1], KillAt(sys.argv[2], int(sys.argv[3])))()
