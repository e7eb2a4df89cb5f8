"""Binary classification with ready-made metrics: is a tumour malignant, given measurements of its cell nuclei?

    python examples/breast_cancer.py

The data is the breast cancer dataset of scikit-learn: 569 tumours with 30 measurements each.
"""

import numpy as np
import torch
from datasets import Dataset
from sklearn.datasets import load_breast_cancer

from torchbase import TrainingBaseSession, ValidationDatasetsDict, split_iterables
from torchbase.metrics import BinaryClassificationMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 30,
        "mini_batch_size": 32,
        "learning_rate": 0.003,
        "seed": 1,
    },
    "data": {"portions": [0.75, 0.25]},
    "metrics": {"BinaryClassificationMetrics": ["roc_auc", "f1_score_macro", "balanced_accuracy"]},
    "network": {"architecture": "Perceptron", "hidden_features": 16, "dropout": 0.2},
}


class Perceptron(torch.nn.Sequential):
    def __init__(self, hidden_features: int, dropout: float) -> None:
        super().__init__(
            torch.nn.Linear(30, hidden_features),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(hidden_features, 1),
            torch.nn.Flatten(start_dim=0),  # one logit per tumour
        )


class BreastCancerSession(TrainingBaseSession):
    def init_datasets(self):
        tumours = load_breast_cancer()
        columns = {"measurements": tumours.data, "is_malignant": tumours.target == 0}
        train, valid = split_iterables(columns, self.config_data["portions"])
        # Computed from the training set only, so that no information about the validation set leaks into training.
        mean, deviation = np.mean(train["measurements"], axis=0), np.std(train["measurements"], axis=0)
        for part in (train, valid):
            part["measurements"] = ((part["measurements"] - mean) / deviation).astype("float32")
        return Dataset.from_dict(train), ValidationDatasetsDict(
            datasets=(Dataset.from_dict(valid),), only_for_demo=(False,), names=("valid",)
        )

    def init_network(self):
        return Perceptron(self.config_network["hidden_features"], self.config_network["dropout"])

    def init_metrics(self):
        # Maps the keys that forward_pass returns to the arguments of the metrics.
        return [
            BinaryClassificationMetrics(
                keyword_maps={"is_malignant": "binary_ground_truth", "probabilities": "prediction_probabilities"}
            )
        ]

    def forward_pass(self, mini_batch):
        logits = self.network(mini_batch["measurements"].to(self.device))
        is_malignant = mini_batch["is_malignant"].to(self.device)
        return {"logits": logits, "probabilities": torch.sigmoid(logits), "is_malignant": is_malignant}

    def loss_function(self, *, logits, is_malignant):
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, is_malignant.float())


if __name__ == "__main__":
    summary = BreastCancerSession(CONFIG)()
    averages = summary.averages["validation-valid"]
    print(f"ROC AUC on the validation set: {averages['roc_auc']:.3f}")
    print(f"F1 score on the validation set: {averages['f1_score_macro']:.3f}")
    print(f"the run is in {summary.run_dir}")
