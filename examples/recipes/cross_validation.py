"""Cross-validation: a run for each fold, with the folds of scikit-learn, and the mean of their results.

    python examples/recipes/cross_validation.py

Stands for loop_examples/kfold.py of Lightning. The data is the breast cancer dataset of scikit-learn. Each run has a
name: after a kill, the same command goes on with the fold that hasn't ended. Any splitter of sklearn.model_selection
works, also one of groups.
"""

import statistics

import torch
from datasets import Dataset
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from torchbase import TrainingBaseSession, ValidationDatasetsDict
from torchbase.metrics import BinaryClassificationMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 3,
        "mini_batch_size": 32,
        "learning_rate": 0.01,
        "seed": 1,
        "group": "cross-validation",
    },
    "data": {"folds": 3, "fold": 0},
    "metrics": {"BinaryClassificationMetrics": ["accuracy"]},
    "network": {"architecture": "Perceptron", "hidden_features": 16},
}


class Perceptron(nn.Sequential):
    def __init__(self, hidden_features):
        super().__init__(
            nn.Linear(30, hidden_features), nn.ReLU(), nn.Linear(hidden_features, 1), nn.Flatten(start_dim=0)
        )


class FoldSession(TrainingBaseSession):
    def init_datasets(self):
        tumours = load_breast_cancer()
        splitter = StratifiedKFold(self.config_data["folds"], shuffle=True, random_state=1)
        train, valid = list(splitter.split(tumours.data, tumours.target))[self.config_data["fold"]]
        mean, deviation = tumours.data[train].mean(axis=0), tumours.data[train].std(axis=0)
        measurements = ((tumours.data - mean) / deviation).astype("float32")
        dataset = Dataset.from_dict({"measurements": measurements, "is_malignant": tumours.target == 0})
        return dataset.select(train), ValidationDatasetsDict(
            datasets=(dataset.select(valid),), only_for_demo=(False,), names=("valid",)
        )

    def init_network(self):
        return Perceptron(self.config_network["hidden_features"])

    def init_metrics(self):
        names = {"is_malignant": "binary_ground_truth", "probabilities": "prediction_probabilities"}
        return [BinaryClassificationMetrics(names)]

    def forward_pass(self, mini_batch):
        logits = self.network(mini_batch["measurements"].to(self.device))
        is_malignant = mini_batch["is_malignant"].to(self.device)
        return {"logits": logits, "probabilities": torch.sigmoid(logits), "is_malignant": is_malignant}

    def loss_function(self, *, logits, is_malignant):
        return binary_cross_entropy_with_logits(logits, is_malignant.float())


def main():
    accuracies = []
    for fold in range(CONFIG["data"]["folds"]):
        config = {**CONFIG, "data": {**CONFIG["data"], "fold": fold}}
        session = FoldSession.begin_or_resume(config, tag=f"fold-{fold}")
        accuracies.append(session().averages["validation-valid"]["accuracy"])
    if session.processes.is_main:
        print(f"accuracy: {statistics.mean(accuracies):.3f} ± {statistics.stdev(accuracies):.3f}")


if __name__ == "__main__":
    main()
