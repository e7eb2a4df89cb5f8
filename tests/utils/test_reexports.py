import pytest

import torchbase.data.checking
import torchbase.data.splitting
import torchbase.data.typed_dict
import torchbase.data.validation_datasets
import torchbase.metrics
import torchbase.utils
import torchbase.utils.metrics_instances

HOMES = {
    "check_columns": torchbase.data.checking,
    "split_iterables": torchbase.data.splitting,
    "split_to_train_valid_test": torchbase.data.splitting,
    "TypedDict": torchbase.data.typed_dict,
    "TypedDictIterable": torchbase.data.typed_dict,
    "ValidationDatasetsDict": torchbase.data.validation_datasets,
    "BaseMetricsClass": torchbase.metrics,
}
METRICS = [
    "BinaryClassificationMetrics",
    "ImageReconstructionMetrics",
    "ImageSegmentationMetrics",
    "MulticlassClassificationMetrics",
    "RegressionMetrics",
    "TorchMetrics",
]


@pytest.mark.parametrize("name", HOMES)
def test_utils_hands_on_the_same_object(name):
    assert getattr(torchbase.utils, name) is getattr(HOMES[name], name)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_instances_hands_on_the_same_object(name):
    assert getattr(torchbase.utils.metrics_instances, name) is getattr(torchbase.metrics, name)


def test_the_lists_of_public_names_are_complete_and_sorted():
    assert torchbase.utils.__all__ == sorted(HOMES)
    assert torchbase.utils.metrics_instances.__all__ == METRICS
