"""Several tasks, one network: the class, several labels and a number for each image, with losses weighted by learning.

    python examples/recipes/multi_task.py

Stands for im2im_pred/utils.py of mtan. The images are the digits of scikit-learn. Each task has a head, a loss, and
metrics with a prefix. The weights of the losses are those of Kendall, Gal and Cipolla: each task has an uncertainty
that is learned.
"""

import torch
from datasets import Dataset
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from torchbase import TrainingBaseSession, ValidationDatasetsDict, split_iterables
from torchbase.metrics import (
    MulticlassClassificationMetrics,
    MultilabelClassificationMetrics,
    RegressionMetrics,
)

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 6,
        "mini_batch_size": 32,
        "learning_rate": 0.005,
        "seed": 1,
    },
    "data": {"portions": [0.8, 0.2]},
    "metrics": {
        "MulticlassClassificationMetrics": ["digit_accuracy"],
        "MultilabelClassificationMetrics": ["traits_f1_score_macro", "traits_f1_score_prime"],
        "RegressionMetrics": ["ink_mean_absolute_error"],
    },
    "network": {"architecture": "MultiTaskNetwork", "hidden_features": 64},
}
TRAITS = {"even": {0, 2, 4, 6, 8}, "prime": {2, 3, 5, 7}, "round": {0, 3, 6, 8, 9}}


class MultiTaskNetwork(nn.Module):
    def __init__(self, hidden_features):
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden_features), nn.ReLU())
        self.digit, self.traits = nn.Linear(hidden_features, 10), nn.Linear(hidden_features, len(TRAITS))
        self.ink = nn.Linear(hidden_features, 1)
        self.log_variances = nn.Parameter(torch.zeros(3))

    def forward(self, images):
        features = self.trunk(images)
        return self.digit(features), self.traits(features), self.ink(features).squeeze(1)


class MultiTaskSession(TrainingBaseSession):
    def init_datasets(self):
        digits = load_digits()
        columns = {
            "image": digits.images.astype("float32") / 16,
            "digit": digits.target,
            "traits": [[int(digit in members) for members in TRAITS.values()] for digit in digits.target],
            "ink": digits.data.astype("float32").mean(axis=1),
        }
        train, valid = split_iterables(columns, self.config_data["portions"])
        return Dataset.from_dict(train), ValidationDatasetsDict(
            datasets=(Dataset.from_dict(valid),), only_for_demo=(False,), names=("valid",)
        )

    def init_network(self):
        return MultiTaskNetwork(self.config_network["hidden_features"])

    def init_metrics(self):
        digit = {"digit": "class_ground_truth", "digit_logits": "class_scores"}
        traits = {"traits": "label_ground_truth", "trait_probabilities": "label_probabilities"}
        ink = {"ink": "target_values", "predicted_ink": "predicted_values"}
        return [
            MulticlassClassificationMetrics(digit, prefix="digit"),
            MultilabelClassificationMetrics(traits, prefix="traits", label_names=list(TRAITS)),
            RegressionMetrics(ink, prefix="ink"),
        ]

    def forward_pass(self, mini_batch):
        image, digit, traits, ink = (mini_batch[key].to(self.device) for key in ("image", "digit", "traits", "ink"))
        digit_logits, trait_logits, predicted_ink = self.network(image)
        return {
            "digit": digit,
            "traits": traits,
            "ink": ink,
            "digit_logits": digit_logits,
            "trait_logits": trait_logits,
            "trait_probabilities": trait_logits.sigmoid(),
            "predicted_ink": predicted_ink,
        }

    def loss_function(self, *, digit, traits, ink, digit_logits, trait_logits, predicted_ink):
        losses = {
            "digit_loss": cross_entropy(digit_logits, digit),
            "traits_loss": binary_cross_entropy_with_logits(trait_logits, traits.float()),
            "ink_loss": mse_loss(predicted_ink, ink),
        }
        log_variances = self.network.log_variances
        weighted = torch.stack(list(losses.values())) * (-log_variances).exp() + log_variances
        return {"loss": weighted.sum(), **{name: loss.detach() for name, loss in losses.items()}}


def main():
    session = MultiTaskSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        for name in ("digit_accuracy", "traits_f1_score_macro", "ink_mean_absolute_error"):
            print(f"{name}: {summary.averages['validation-valid'][name]:.3f}")


if __name__ == "__main__":
    main()
