"""Export: the best network of a run becomes a file that runs without its code, for mini-batches of any size.

    python examples/recipes/export.py

Stands for mnist/main.py of pytorch/examples. The images are the digits of scikit-learn. What is exported takes pixels
from 0 to 16, as they are in the data, and returns probabilities. torch.onnx.export takes the same program, and writes a
file for other runtimes. Where the network alone is enough, ``torchbase export RUN FILE`` writes it.
"""

from pathlib import Path

import torch
from datasets import Dataset
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from torchbase import TrainingBaseSession, ValidationDatasetsDict, split_iterables

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 5,
        "mini_batch_size": 32,
        "learning_rate": 0.003,
        "seed": 1,
    },
    "data": {"portions": [0.8, 0.2]},
    "network": {"architecture": "Perceptron", "hidden_features": 64, "dropout": 0.1},
}


class Perceptron(nn.Sequential):
    def __init__(self, hidden_features, dropout):
        super().__init__(
            nn.Flatten(), nn.Linear(64, hidden_features), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_features, 10)
        )


class Classifier(nn.Module):
    """What is exported."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        return self.network(pixels / 16).softmax(dim=1)


class DigitsSession(TrainingBaseSession):
    def init_datasets(self):
        digits = load_digits()
        columns = {"pixels": digits.images.astype("float32"), "label": digits.target}
        train, valid = map(Dataset.from_dict, split_iterables(columns, self.config_data["portions"]))
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def init_network(self):
        return Perceptron(self.config_network["hidden_features"], self.config_network["dropout"])

    def init_metrics(self):
        return None

    def forward_pass(self, mini_batch):
        logits = self.network(mini_batch["pixels"].to(self.device) / 16)
        return {"logits": logits, "labels": mini_batch["label"].to(self.device)}

    def loss_function(self, *, logits, labels):
        return cross_entropy(logits, labels)


def main():
    session = DigitsSession(CONFIG)
    summary = session()
    session.load_best_network()
    if session.processes.is_main:
        valid = session.datasets_valid_dict["valid"].with_format("torch")[:]
        classifier = Classifier(session.network).cpu().eval()
        any_size = {"pixels": {0: torch.export.Dim("samples")}}
        path = Path(summary.run_dir, "classifier.pt2")
        torch.export.save(torch.export.export(classifier, (valid["pixels"],), dynamic_shapes=any_size), path)
        probabilities = torch.export.load(path).module()(valid["pixels"])
        print(f"accuracy of the exported network: {(probabilities.argmax(1) == valid['label']).float().mean():.3f}")
        print(f"it is in {path}")


if __name__ == "__main__":
    main()
