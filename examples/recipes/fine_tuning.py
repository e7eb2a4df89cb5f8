"""Fine-tuning: a run begins with the network of another run, of which first only the head is trained, then all of it.

    python examples/recipes/fine_tuning.py

Stands for computer_vision_fine_tuning.py of Lightning. The first run has many digits of scikit-learn, the second has
few of another kind: negatives, which are darker. The backbone is frozen for two epochs, and then trains with a tenth of
the learning rate.
"""

import torch
from datasets import Dataset
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from torchbase import TrainingBaseSession, ValidationDatasetsDict, split_iterables
from torchbase.hooks import Freeze
from torchbase.metrics import MulticlassClassificationMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 5,
        "mini_batch_size": 32,
        "learning_rate": 0.003,
        "seed": 1,
    },
    "data": {"portions": {"pretraining": 0.7, "fine-tuning": 0.1, "valid": 0.2}},
    "metrics": {"MulticlassClassificationMetrics": ["accuracy"]},
    "network": {"architecture": "DigitsNetwork", "channels": 16},
}


class DigitsNetwork(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Unflatten(1, (1, 8)),
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(16 * channels, 10)

    def forward(self, images):
        return self.head(self.backbone(images))


class PretrainingSession(TrainingBaseSession):
    def init_datasets(self):
        return self.datasets_of("pretraining", lambda images: images)

    def datasets_of(self, name, change):
        digits, portions = load_digits(), self.config_data["portions"]
        columns = {"image": change(digits.images.astype("float32") / 16), "label": digits.target}
        parts = dict(zip(portions, split_iterables(columns, list(portions.values())), strict=True))
        return Dataset.from_dict(parts[name]), ValidationDatasetsDict(
            datasets=(Dataset.from_dict(parts["valid"]),), only_for_demo=(False,), names=("valid",)
        )

    def init_network(self):
        return DigitsNetwork(self.config_network["channels"])

    def init_metrics(self):
        return [MulticlassClassificationMetrics({"labels": "class_ground_truth", "logits": "class_scores"})]

    def forward_pass(self, mini_batch):
        logits = self.network(mini_batch["image"].to(self.device))
        return {"logits": logits, "labels": mini_batch["label"].to(self.device)}

    def loss_function(self, *, logits, labels):
        return cross_entropy(logits, labels)


class FineTuningSession(PretrainingSession):
    def init_datasets(self):
        return self.datasets_of("fine-tuning", lambda images: 0.5 * (1 - images))

    def init_optimizer(self):
        rate = self.config_session.learning_rate
        groups = [
            {"params": self.network.backbone.parameters(), "lr": rate / 10},
            {"params": self.network.head.parameters(), "lr": rate},
        ]
        return torch.optim.Adam(groups)

    def default_hooks(self):
        return [*super().default_hooks(), Freeze("backbone.*", until="2ep")]


def main():
    PretrainingSession.begin_or_resume(CONFIG, tag="pretraining")()
    config = {**CONFIG, "session": {**CONFIG["session"], "num_epochs": 15, "learning_rate": 0.01}}
    session = FineTuningSession(config, source_run_dir_tag="pretraining")
    summary = session()
    if session.processes.is_main:
        print(f"accuracy: {summary.averages['validation-valid']['accuracy']:.3f}")


if __name__ == "__main__":
    main()
