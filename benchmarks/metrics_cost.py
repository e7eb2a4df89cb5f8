"""What metrics cost: the digits example with all multiclass metrics and without metrics."""

import copy
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from data_path import HEAD, Contender, compare_ratios, describe_turns
from measuring import Outcome

from torchbase import BaseMetricsClass
from torchbase.metrics import MulticlassClassificationMetrics
from torchbase.metrics.epoch_kinds import FIGURE, kind_of

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # last, since both folders have several_processes.py
import digits as example

REPETITIONS = 11
EPOCHS = 12


def measure() -> Outcome:
    """Measures the example's network, and a network so small that almost only the metrics take time."""
    known = MulticlassClassificationMetrics().get_all_metric_functionals_dict()
    numbers = [name for name, functional in known.items() if kind_of(functional) != FIGURE]
    rows = []
    for network, bound in (("SmallConvolutionalNetwork", 1.15), ("Perceptron", None)):
        rows += compare_ratios(
            [
                Contender(f"{network}: no metrics", lambda network=network: train(network, [])),
                Contender(f"{network}: all metrics", lambda network=network: train(network, numbers), most=bound),
            ],
            REPETITIONS,
        )
    return Outcome(
        "metrics_cost: all multiclass metrics",
        f"{EPOCHS} epochs of examples/digits.py, three validation sets; µs of the whole run per training sample. "
        f"{len(numbers)} metrics at the default interval: for every tenth mini-batch, and for each epoch over all "
        f"samples. The perceptron is 64-32-10. {describe_turns(REPETITIONS)}",
        HEAD,
        rows,
    )


class Perceptron(torch.nn.Sequential):
    """A network that takes almost no time."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


class MeasuredSession(example.DigitsSession):  # type: ignore[misc]
    """The example with metrics."""

    def init_network(self) -> torch.nn.Module:
        """Returns the network that the config names."""
        is_example = self.config_network["architecture"] != "Perceptron"
        network: torch.nn.Module = super().init_network() if is_example else Perceptron()
        return network

    def init_metrics(self) -> list[BaseMetricsClass]:
        """Returns the metrics."""
        maps = {"labels": "class_ground_truth", "logits": "class_scores"}
        return [MulticlassClassificationMetrics(maps, scores_are_logits=True)]


def train(network: str, names: list[str]) -> float:
    """Trains with some metrics; returns the seconds per training sample."""
    config: dict[str, Any] = copy.deepcopy(example.CONFIG)
    config["session"]["num_epochs"] = EPOCHS
    config["network"]["architecture"] = network
    config["metrics"] = {"MulticlassClassificationMetrics": names}
    with TemporaryDirectory() as folder:
        started_at = perf_counter()
        session = MeasuredSession(config, Path(folder))
        session()
        return (perf_counter() - started_at) / (EPOCHS * len(session.dataset_train))
