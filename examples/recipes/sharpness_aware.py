"""A classifier of digits whose labels are partly wrong, trained for flat minima by sharpness-aware minimization.

    python examples/recipes/sharpness_aware.py

Stands for example/train.py of davda54/sam. The images are the digits of scikit-learn; a part of the training labels is
drawn at random.
"""

import torch
from datasets import Dataset
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

from torchbase import TrainingBaseSession, ValidationDatasetsDict, split_iterables
from torchbase.hooks import SharpnessAwareMinimization
from torchbase.metrics import MulticlassClassificationMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 12,
        "mini_batch_size": 64,
        "learning_rate": 0.05,
        "weight_decay": 0.0005,
        "seed": 1,
    },
    "data": {"portions": [0.7, 0.3], "wrong_labels": 0.3},
    "metrics": {"MulticlassClassificationMetrics": ["accuracy"]},
    "network": {"architecture": "Classifier", "width": 128},
}


class Classifier(nn.Sequential):
    def __init__(self, width):
        hidden = nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU()
        super().__init__(nn.Flatten(), *hidden, nn.Linear(width, 10))


class SharpnessAwareSession(TrainingBaseSession):
    def init_datasets(self):
        digits = load_digits()
        columns = {"image": digits.images.astype("float32") / 16, "label": digits.target}
        train, valid = split_iterables(columns, self.config_data["portions"])
        labels, drawn = torch.as_tensor(train["label"]), torch.randint(10, (len(train["label"]),))
        is_wrong = torch.rand(len(labels)) < self.config_data["wrong_labels"]
        train["label"] = torch.where(is_wrong, drawn, labels).numpy()
        return Dataset.from_dict(train), ValidationDatasetsDict(
            datasets=(Dataset.from_dict(valid),), only_for_demo=(False,), names=("valid",)
        )

    def init_network(self):
        return Classifier(self.config_network["width"])

    def init_optimizer(self):
        session = self.config_session
        settings = {"lr": session.learning_rate, "weight_decay": session.weight_decay, "momentum": 0.9}
        return torch.optim.SGD(self.network.parameters(), **settings)

    def init_scheduler(self):
        return CosineAnnealingLR(self.optimizer, self.config_session.num_epochs)

    def default_hooks(self):
        return [*super().default_hooks(), SharpnessAwareMinimization(rho=0.1)]

    def init_metrics(self):
        return [MulticlassClassificationMetrics()]

    def forward_pass(self, mini_batch):
        return {
            "class_scores": self.network(mini_batch["image"].to(self.device)),
            "class_ground_truth": mini_batch["label"].to(self.device),
        }

    def loss_function(self, *, class_scores, class_ground_truth):
        return cross_entropy(class_scores, class_ground_truth, label_smoothing=0.1 if self.network.training else 0.0)


def main():
    session = SharpnessAwareSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        print(f"accuracy: {summary.averages['validation-valid']['accuracy']:.3f}")


if __name__ == "__main__":
    main()
