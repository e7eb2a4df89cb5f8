import pytest

import torchbase.checkpoints.storage
import torchbase.checkpoints.verification
import torchbase.data
import torchbase.export.exporting
import torchbase.metrics
import torchbase.run_directory.best_networks
import torchbase.run_directory.record
import torchbase.run_directory.status
import torchbase.run_directory.value_ranges
import torchbase.utils
import torchbase.utils.metrics_instances

OF_LOADERS = ("Loader", "Reader", "MiniBatch", "MiniBatchPart")  # and of what they return: not for building data
ORIGINS = {
    torchbase.checkpoints.storage: ["Checkpoint", "list_checkpoints", "read_checkpoint"],
    torchbase.checkpoints.verification: ["Finding", "Replay", "Verification", "verify_run"],
    torchbase.data: [name for name in torchbase.data.__all__ if not name.endswith(OF_LOADERS)],
    torchbase.export.exporting: ["ExportedNetwork", "export_network"],
    torchbase.metrics: ["BaseMetricsClass"],
    torchbase.run_directory.best_networks: ["BestNetworks", "SavedBest", "read_best_networks"],
    torchbase.run_directory.record: ["Epoch", "read_epochs", "read_status"],
    torchbase.run_directory.status: ["Best", "Status"],
    torchbase.run_directory.value_ranges: ["ValueRange"],
}
METRICS = [
    "BinaryClassificationMetrics",
    "ImageReconstructionMetrics",
    "ImageSegmentationMetrics",
    "MulticlassClassificationMetrics",
    "MultilabelClassificationMetrics",
    "RegressionMetrics",
    "TorchMetrics",
]


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin.__name__)
def test_utils_reexports_the_same_objects(origin):
    for name in ORIGINS[origin]:
        assert getattr(torchbase.utils, name) is getattr(origin, name)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_instances_reexports_the_same_object(name):
    assert getattr(torchbase.utils.metrics_instances, name) is getattr(torchbase.metrics, name)


def test_all_public_names_are_reexported():
    assert set(torchbase.utils.__all__) == {name for names in ORIGINS.values() for name in names}
    assert torchbase.utils.metrics_instances.__all__ == METRICS
