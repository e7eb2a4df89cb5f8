"""Metric learning: images of the same class get similar embeddings, by a triplet loss on class-balanced mini-batches.

    python examples/recipes/metric_learning.py

Stands for siamese_network/main.py of pytorch/examples. The images are the digits of scikit-learn. The best network is
that with the best recall: how often the nearest other image of the validation set has the same class.
"""

import torch
from datasets import Dataset
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import normalize, softplus

from torchbase import BaseMetricsClass, TrainingBaseSession, ValidationDatasetsDict, split_iterables
from torchbase.data import ClassesOrder
from torchbase.hooks import BestValidation
from torchbase.metrics import higher_is_better

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 6,
        "mini_batch_size": 32,
        "learning_rate": 0.003,
        "seed": 1,
    },
    "data": {"portions": [0.8, 0.2], "classes": 8, "samples": 4},
    "metrics": {"RetrievalMetrics": ["recall"]},
    "network": {"architecture": "Embedding", "hidden_features": 64, "features": 16},
}


class Embedding(nn.Sequential):
    def __init__(self, hidden_features, features):
        super().__init__(nn.Flatten(), nn.Linear(64, hidden_features), nn.ReLU(), nn.Linear(hidden_features, features))

    def forward(self, images):
        return normalize(super().forward(images))


class RetrievalMetrics(BaseMetricsClass):
    @higher_is_better
    def recall(self, *, embeddings, labels):
        distances = torch.cdist(embeddings, embeddings).fill_diagonal_(float("inf"))
        return (labels[distances.argmin(dim=1)] == labels).float().mean()


class MetricLearningSession(TrainingBaseSession):
    def init_datasets(self):
        digits = load_digits()
        columns = {"image": digits.images.astype("float32") / 16, "label": digits.target}
        train, valid = split_iterables(columns, self.config_data["portions"])
        return Dataset.from_dict(train), ValidationDatasetsDict(
            datasets=(Dataset.from_dict(valid),), only_for_demo=(False,), names=("valid",)
        )

    def init_order(self):
        data = self.config_data
        return ClassesOrder(self.dataset_train["label"], classes=data["classes"], samples=data["samples"])

    def init_network(self):
        return Embedding(self.config_network["hidden_features"], self.config_network["features"])

    def init_best_validation(self):
        return BestValidation("recall")

    def init_metrics(self):
        return [RetrievalMetrics(validation_only=True)]

    def forward_pass(self, mini_batch):
        return {
            "embeddings": self.network(mini_batch["image"].to(self.device)),
            "labels": mini_batch["label"].to(self.device),
        }

    def loss_function(self, *, embeddings, labels):
        if not self.network.training:  # the validation set isn't in mini-batches of a few classes
            return None
        similarities = embeddings @ embeddings.T
        is_same = labels[:, None] == labels
        hardest_same = similarities.masked_fill(~is_same, 1.0).amin(dim=1)
        hardest_other = similarities.masked_fill(is_same, -1.0).amax(dim=1)
        return softplus(10 * (hardest_other - hardest_same)).mean()


def main():
    session = MetricLearningSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        print(f"recall: {summary.averages['validation-valid']['recall']:.3f}")


if __name__ == "__main__":
    main()
