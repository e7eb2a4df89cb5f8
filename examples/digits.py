"""A small network that classifies handwritten digits, with two validation sets and one set for demo.

    python examples/digits.py

The digits are a dataset of scikit-learn: 1,797 images of 8 by 8 pixels. View the run afterwards with ``torchbase runs``
and ``torchbase show``, or with ``tensorboard --logdir runs``.
"""

import torch
from datasets import Dataset
from sklearn.datasets import load_digits

from torchbase import TrainingBaseSession, ValidationDatasetsDict, split_iterables

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 12,
        "mini_batch_size": 32,
        "learning_rate": 0.003,
        "seed": 1,
    },
    "data": {"portions": [0.7, 0.15, 0.15], "noise": 1.0},
    "network": {"architecture": "SmallConvolutionalNetwork", "channels": 16, "dropout": 0.2},
}


class SmallConvolutionalNetwork(torch.nn.Sequential):
    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__(
            torch.nn.Conv2d(1, channels, 3, padding=1),
            torch.nn.BatchNorm2d(channels),
            torch.nn.ReLU(),
            torch.nn.Conv2d(channels, 2 * channels, 3, padding=1),
            torch.nn.BatchNorm2d(2 * channels),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(2 * channels * 16, 10),
        )


class DigitsSession(TrainingBaseSession):
    def init_datasets(self):
        digits = load_digits()
        columns = {"image": digits.images.astype("float32") / 16.0, "label": digits.target}
        train, valid, test = split_iterables(columns, self.config_data["portions"])

        def add_noise(batch):
            noise = self.config_data["noise"] / 16.0
            return {
                "image": [torch.tensor(image) + noise * torch.randn(8, 8) for image in batch["image"]],
                "label": batch["label"],
            }

        noisy = Dataset.from_dict(valid).with_transform(add_noise)
        return Dataset.from_dict(train), ValidationDatasetsDict(
            datasets=(Dataset.from_dict(valid), noisy, Dataset.from_dict(test)),
            only_for_demo=(False, False, True),
            names=("valid", "noisy", "test"),
        )

    def init_network(self):
        return SmallConvolutionalNetwork(self.config_network["channels"], self.config_network["dropout"])

    def forward_pass(self, mini_batch):
        images = mini_batch["image"].to(self.device).unsqueeze(1)
        labels = mini_batch["label"].to(self.device)
        logits = self.network(images)
        self.log("accuracy", (logits.argmax(dim=1) == labels).float().mean())
        return {"logits": logits, "labels": labels}

    def loss_function(self, *, logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels)

    def init_metrics(self):
        return None


if __name__ == "__main__":
    summary = DigitsSession(CONFIG)()
    for phase, averages in summary.averages.items():
        print(f"{phase}: {averages['accuracy']:.1%}")
    print(f"the run is in {summary.run_dir}")
