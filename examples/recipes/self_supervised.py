"""Learning without labels: BYOL, whose network predicts what a slowly moving average of itself sees in another view.

    python examples/recipes/self_supervised.py

Stands for main.py and trainer.py of PyTorch-BYOL. The images are the digits of scikit-learn; a view is shifted and
noisy. The labels are used only to validate: how often the nearest other image of the validation set, by the features of
a view, has the same label.
"""

import torch
from datasets import Dataset
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cosine_similarity, normalize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchbase import BaseMetricsClass, TrainingBaseSession, ValidationDatasetsDict, hookimpl, split_iterables
from torchbase.hooks import BestValidation
from torchbase.metrics import higher_is_better

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 8,
        "mini_batch_size": 64,
        "learning_rate": 0.005,
        "seed": 1,
    },
    "data": {"portions": [0.8, 0.2], "noise": 0.1},
    "metrics": {"NeighbourMetrics": ["neighbour_accuracy"]},
    "network": {"architecture": "Byol", "hidden_features": 128, "features": 64, "decay": 0.97},
}


class Byol(nn.Module):
    def __init__(self, hidden_features, features, decay):
        super().__init__()
        self.online = nn.Sequential(nn.Flatten(), *perceptron(64, hidden_features, features))
        self.predictor = perceptron(features, hidden_features, features)
        self.target = AveragedModel(self.online, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.target.requires_grad_(False).eval()

    def forward(self, view, other_view):
        return cosine_similarity(self.predictor(self.online(view)), self.target(other_view))


def perceptron(inputs, hidden, outputs):
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class UpdateTarget:
    @hookimpl(wrapper=True)
    def run_optimizer_step(self, run):
        result = yield
        run.network.target.update_parameters(run.network.online)
        return result


class NeighbourMetrics(BaseMetricsClass):
    @higher_is_better
    def neighbour_accuracy(self, *, features, labels):
        features = normalize(features)
        nearest = (features @ features.T).fill_diagonal_(-1.0).argmax(dim=1)
        return (labels[nearest] == labels).float().mean()


class ByolSession(TrainingBaseSession):
    def init_datasets(self):
        digits = load_digits()
        columns = {"image": digits.images.astype("float32") / 16, "label": digits.target}
        train, valid = map(Dataset.from_dict, split_iterables(columns, self.config_data["portions"]))
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def init_network(self):
        network = self.config_network
        return Byol(network["hidden_features"], network["features"], network["decay"])

    def default_hooks(self):
        return [*super().default_hooks(), UpdateTarget()]

    def init_best_validation(self):
        return BestValidation("neighbour_accuracy")

    def init_metrics(self):
        return [NeighbourMetrics(validation_only=True)]

    def view_of(self, images):
        places = torch.arange(8) + torch.randint(-1, 2, (2, len(images), 1))  # each image is moved by up to one pixel
        rows, columns = (places % 8).to(self.device)
        moved = images[torch.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None]]
        return moved + self.config_data["noise"] * torch.randn_like(images)

    def forward_pass(self, mini_batch):
        images = mini_batch["image"].to(self.device)
        one, other = self.view_of(images), self.view_of(images)
        similarity = (self.network(one, other) + self.network(other, one)) / 2
        if self.network.training:
            return {"similarity": similarity}
        return {"similarity": similarity, "features": self.network.online(one), "labels": mini_batch["label"]}

    def loss_function(self, *, similarity):
        return (1 - similarity).mean()


def main():
    session = ByolSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        print(f"accuracy of the nearest neighbour: {summary.averages['validation-valid']['neighbour_accuracy']:.3f}")


if __name__ == "__main__":
    main()
