import pytest

import torchbase.checkpoints.storage
import torchbase.checkpoints.verification
import torchbase.data
import torchbase.metrics
import torchbase.run_directory.record
import torchbase.utils
import torchbase.utils.metrics_instances

HOMES = {
    torchbase.checkpoints.storage: ["Checkpoint", "list_checkpoints", "read_checkpoint"],
    torchbase.checkpoints.verification: ["Finding", "Replay", "Verification", "verify_run"],
    torchbase.data: [name for name in torchbase.data.__all__ if not name.endswith(("Loader", "Reader"))],
    torchbase.metrics: ["BaseMetricsClass"],
    torchbase.run_directory.record: ["Best", "Epoch", "Status", "read_epochs", "read_status"],
}
METRICS = [
    "BinaryClassificationMetrics",
    "ImageReconstructionMetrics",
    "ImageSegmentationMetrics",
    "MulticlassClassificationMetrics",
    "RegressionMetrics",
    "TorchMetrics",
]


@pytest.mark.parametrize("home", HOMES, ids=lambda home: home.__name__)
def test_utils_has_the_same_objects(home):
    for name in HOMES[home]:
        assert getattr(torchbase.utils, name) is getattr(home, name)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_instances_has_the_same_object(name):
    assert getattr(torchbase.utils.metrics_instances, name) is getattr(torchbase.metrics, name)


def test_the_lists_of_public_names_are_complete():
    assert set(torchbase.utils.__all__) == {name for names in HOMES.values() for name in names}
    assert torchbase.utils.metrics_instances.__all__ == METRICS
