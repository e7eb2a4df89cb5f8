import re
from pathlib import Path

import pytest

from torchbase import BaseMetricsClass
from torchbase.metrics import (
    BinaryClassificationMetrics,
    ImageReconstructionMetrics,
    ImageSegmentationMetrics,
    MulticlassClassificationMetrics,
    MultilabelClassificationMetrics,
    RegressionMetrics,
    TorchMetrics,
    accumulated,
    higher_is_better,
    lower_is_better,
    mean_over_samples,
)
from torchbase.metrics.selection import select_metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
FAMILIES = [
    BinaryClassificationMetrics,
    ImageReconstructionMetrics,
    ImageSegmentationMetrics,
    MulticlassClassificationMetrics,
    MultilabelClassificationMetrics,
    RegressionMetrics,
]
ARROWS = {"↑": "max", "↓": "min", "": None}


def modes_of(metrics):
    names = list(metrics.get_all_metric_functionals_dict())
    return select_metrics([metrics], {type(metrics).__name__: names}).modes


def documented_modes(family):
    section = PAGE.read_text(encoding="utf-8").split(f"### {family.__name__}\n")[1].split("\n##")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {name: ARROWS[row[-1].strip()] for row in rows for name in re.findall(r"`(\w+)`", row[0])}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_metric_of_a_family_declares_the_direction_that_the_page_shows(family):
    modes = modes_of(family())
    assert modes == documented_modes(family)
    assert [name for name, mode in modes.items() if mode is None] == (
        ["confusion_matrix"] if family is MulticlassClassificationMetrics else []
    )


def test_a_custom_metric_declares_its_direction_beside_its_kind():
    class Custom(BaseMetricsClass):
        @lower_is_better
        @mean_over_samples
        def error(self, *, output):
            return output.mean()

        @accumulated(lambda metrics: None)
        @higher_is_better
        def score(self, *, output):
            return 0.0

        def size(self, *, output):
            return 0.0

    assert modes_of(Custom({"result": "output"})) == {"error": "min", "score": "max", "size": None}


def test_a_metric_of_torchmetrics_has_the_direction_that_it_states():
    torchmetrics = pytest.importorskip("torchmetrics")

    class Open(torchmetrics.MeanSquaredError):
        higher_is_better = None

    metrics = TorchMetrics(
        {"error": torchmetrics.MeanSquaredError(), "r2": torchmetrics.R2Score(), "open": Open()},
    )
    assert modes_of(metrics) == {"error": "min", "r2": "max", "open": None}
