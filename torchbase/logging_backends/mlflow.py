"""Records in MLflow: https://mlflow.org/docs/latest/ml/tracking/."""

import re
from typing import Any

from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.run import Run
from torchbase.files.durable import read_json, write_json
from torchbase.logging_backends.base import LoggingBackend
from torchbase.logging_backends.records import HyperParameters, Image, Record, Scalars, Text
from torchbase.optional_packages import check_installed, load

FILE = "mlflow.json"
NUMBERS_IN_A_REQUEST = 1000  # the most that MLflow accepts
PARAMETERS_IN_A_REQUEST = 100


class MLflow(LoggingBackend):
    """Records a run in an MLflow server, or in a database file: numbers, hyper-parameters, texts, images and figures.

    Needs ``pip install 'torchbase[mlflow]'``. The run directory stores the ID of MLflow's run in ``mlflow.json``. A
    resumed run continues MLflow's run, and skips the values that MLflow already has.

    - MLflow allows letters, digits and ``_-. :/`` in a name: any other character becomes ``_``.
    - Texts and images are artifacts: ``texts/TAG/STEP.md``, ``pictures/TAG/STEP.png``.
    - A parameter of MLflow can't change. If a run resumes with another value (more epochs, for example), the new value
      becomes a tag with the parameter's name.
    - A database can't store infinity: MLflow stores the largest number instead.
    - Histograms and charts are ignored.
    """

    name = "mlflow"

    def __init__(self, tracking_uri: str | None = None, experiment: str = "torchbase") -> None:
        """Sets the server and the experiment.

        Args:
            tracking_uri: The server, or a file, e.g. ``sqlite:///mlflow.db``; by default MLflow's own setting
                (``MLFLOW_TRACKING_URI``).
            experiment: The name of MLflow's experiment, which is created if it doesn't exist.

        Raises:
            HookError: If MLflow isn't installed.
        """
        check_installed("mlflow", "The hook MLflow")
        self._tracking_uri, self._experiment = tracking_uri, experiment
        self._client: Any = None
        self._entities: Any = None
        self._run_id: str | None = None
        self._status = "FINISHED"
        self._numbers: list[Any] = []
        self._is_resumed = False
        self._steps: dict[str, set[int]] = {}

    @property
    def target(self) -> str:
        """What the backend writes, for messages."""
        return f"to MLflow at {self._tracking_uri or 'its default address'}"

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Imports MLflow before the thread starts."""
        load("mlflow")
        self._run_id, self._status, self._is_resumed = None, "FINISHED", False
        super().on_run_start(run)

    @hookimpl(trylast=True)
    def on_exception(self, error: BaseException) -> None:
        """Writes the remaining records, and marks the run as failed."""
        self._status = "FAILED" if isinstance(error, Exception) else "KILLED"
        super().on_exception(error)

    def open(self, run: Run) -> None:
        """Finds or creates MLflow's run; see `LoggingBackend.open`."""
        mlflow = load("mlflow")
        uri = self._tracking_uri or mlflow.get_tracking_uri()
        self._client, self._entities = mlflow.MlflowClient(tracking_uri=uri), load("mlflow", "mlflow.entities")
        self._numbers.clear()
        self._steps.clear()
        self._run_id = self._run_id or self._find_or_create_run(run, uri)
        self._client.update_run(self._run_id, status="RUNNING")

    def write(self, record: Record) -> None:
        """Sends a record, or collects its numbers; see `LoggingBackend.write`."""
        match record:
            case Scalars(values, step, time):
                for tag, value in values.items():
                    if not self._has(name := _name(tag), step):
                        self._numbers.append(self._entities.Metric(name, value, int(time * 1000), step))
                if len(self._numbers) >= NUMBERS_IN_A_REQUEST:
                    self.flush()
            case HyperParameters(values):
                self._send_parameters({_name(name): str(value) for name, value in values.items()})
            case Text(tag, text, step):
                self._client.log_text(self._run_id, text, f"texts/{_path(tag)}/{step:010d}.md")
            case Image(tag, pixels, step):
                self._client.log_image(self._run_id, pixels, f"pictures/{_path(tag)}/{step:010d}.png")

    def flush(self) -> None:
        """Sends the collected numbers."""
        while self._numbers:
            batch = self._numbers[:NUMBERS_IN_A_REQUEST]
            self._client.log_batch(self._run_id, metrics=batch, synchronous=True)
            del self._numbers[: len(batch)]

    def close(self) -> None:
        """Sends how the run ended."""
        self._client.set_terminated(self._run_id, self._status)

    def abandon(self) -> None:
        """Drops what could not be sent."""
        self._numbers.clear()

    def _find_or_create_run(self, run: Run, uri: str) -> str:
        file = run.run_directory.file(FILE) if run.run_directory is not None else None
        if file is not None and file.exists() and (saved := read_json(file))["tracking_uri"] == uri:
            self._is_resumed = True
            return str(saved["run_id"])
        experiment = self._client.get_experiment_by_name(self._experiment)
        experiment_id = (
            self._client.create_experiment(self._experiment) if experiment is None else experiment.experiment_id
        )
        tag = run.run_directory.tag if run.run_directory is not None else None
        run_id = str(self._client.create_run(experiment_id, run_name=tag).info.run_id)
        if file is not None:
            write_json(file, {"tracking_uri": uri, "run_id": run_id})
        return run_id

    def _has(self, name: str, step: int) -> bool:
        if not self._is_resumed:
            return False
        if name not in self._steps:
            # The steps of a curve increase, so no step before the first one can be logged again.
            history = self._client.get_metric_history(self._run_id, name)
            self._steps[name] = {metric.step for metric in history if metric.step >= step}
        return step in self._steps[name]

    def _send_parameters(self, values: dict[str, str]) -> None:
        existing = self._client.get_run(self._run_id).data.params
        new = [self._entities.Param(name, value) for name, value in values.items() if name not in existing]
        for begin in range(0, len(new), PARAMETERS_IN_A_REQUEST):
            self._client.log_batch(self._run_id, params=new[begin : begin + PARAMETERS_IN_A_REQUEST], synchronous=True)
        for name, value in values.items():
            if existing.get(name, value) != value:
                self._client.set_tag(self._run_id, name, value)


def _name(tag: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", tag, flags=re.ASCII)


def _path(tag: str) -> str:
    # The path of a folder: no part may be empty or lead upwards.
    return "/".join(part.replace("..", "__") for part in re.sub(r"[: ]", "_", _name(tag)).split("/") if part) or "_"
