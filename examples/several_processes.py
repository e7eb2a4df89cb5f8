"""The same bits on any number of processes: a network for handwritten digits, with mini-batches in four parts.

    python examples/several_processes.py
    torchrun --nproc-per-node 2 examples/several_processes.py
    torchrun --nproc-per-node 3 examples/several_processes.py

Each command prints the same SHA-256 of the weights. The digits are a dataset of scikit-learn.
"""

import hashlib

import torch
from datasets import Dataset
from sklearn.datasets import load_digits

from torchbase import TrainingBaseSession, ValidationDatasetsDict, split_iterables
from torchbase.metrics import MulticlassClassificationMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 3,
        "mini_batch_size": 64,  # of one step of the optimizer, over all processes
        "mini_batch_parts": 4,  # so at most four processes
        "learning_rate": 0.003,
        "seed": 1,
    },
    "data": {"portions": [0.8, 0.2]},
    "network": {"architecture": "DigitsNetwork", "hidden_features": 128, "dropout": 0.2},
    "metrics": {"MulticlassClassificationMetrics": ["accuracy"]},
}


class DigitsNetwork(torch.nn.Sequential):
    def __init__(self, hidden_features: int, dropout: float) -> None:
        super().__init__(
            torch.nn.Flatten(),
            torch.nn.Linear(64, hidden_features),
            torch.nn.BatchNorm1d(hidden_features),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(hidden_features, 10),
        )


class DigitsSession(TrainingBaseSession):
    def init_datasets(self):
        digits = load_digits()
        columns = {"image": digits.images.astype("float32") / 16.0, "label": digits.target}
        train, valid = map(Dataset.from_dict, split_iterables(columns, self.config_data["portions"]))
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def init_network(self):
        return DigitsNetwork(self.config_network["hidden_features"], self.config_network["dropout"])

    def forward_pass(self, mini_batch):
        logits = self.network(mini_batch["image"].to(self.device))
        return {"logits": logits, "labels": mini_batch["label"].to(self.device)}

    def loss_function(self, *, logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels)

    def init_metrics(self):
        return [MulticlassClassificationMetrics({"labels": "class_ground_truth", "logits": "class_scores"})]


def main() -> None:
    torch.set_num_threads(1)  # as torchrun does: the bits of some operations depend on the number of threads
    session = DigitsSession(CONFIG)
    summary = session()
    if session.processes.is_main:  # this program runs in each process
        digest = hashlib.sha256()
        for tensor in session.network.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
        print(f"processes: {session.processes.count}")
        print(f"accuracy: {summary.averages['validation-valid']['accuracy']:.3f}")
        print(f"SHA-256 of the network: {digest.hexdigest()}")


if __name__ == "__main__":
    main()
