"""A variational autoencoder: it learns a distribution of images, and draws new ones.

    python examples/recipes/vae.py

Stands for vae/main.py of pytorch/examples. The images are the digits of scikit-learn. TensorBoard shows reconstructions
of the validation set, and a grid of drawn images.
"""

import torch
from datasets import Dataset
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from torchbase import TrainingBaseSession, ValidationDatasetsDict, hookimpl, split_iterables
from torchbase.hooks import LogSamples

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 10,
        "mini_batch_size": 64,
        "learning_rate": 0.003,
        "seed": 1,
    },
    "data": {"portions": [0.8, 0.2]},
    "network": {"architecture": "VariationalAutoencoder", "hidden_features": 128, "code_features": 4},
}


class VariationalAutoencoder(nn.Module):
    def __init__(self, hidden_features, code_features):
        super().__init__()
        self.code_features = code_features
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden_features), nn.ReLU(), nn.Linear(hidden_features, 2 * code_features)
        )
        self.decoder = nn.Sequential(
            nn.Linear(code_features, hidden_features),
            nn.ReLU(),
            nn.Linear(hidden_features, 64),
            nn.Unflatten(1, (8, 8)),
        )

    def forward(self, images):
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        code = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return self.decoder(code), mean, log_variance


class LogDrawnImages:
    @hookimpl
    def on_epoch_end(self, run):
        codes = torch.randn(8, 8, run.network.code_features, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            images = run.network.decoder(codes.flatten(0, 1).to(run.device)).sigmoid()
        grid = images.unflatten(0, (8, 8)).transpose(1, 2).reshape(1, 64, 64)
        run.call.log_image(run=run, tag="drawn", image=grid.cpu().numpy(), step=run.epoch)


class VaeSession(TrainingBaseSession):
    def init_datasets(self):
        images = load_digits().images.astype("float32") / 16
        train, valid = split_iterables({"image": images}, self.config_data["portions"])
        return Dataset.from_dict(train), ValidationDatasetsDict(
            datasets=(Dataset.from_dict(valid),), only_for_demo=(False,), names=("valid",)
        )

    def init_network(self):
        return VariationalAutoencoder(self.config_network["hidden_features"], self.config_network["code_features"])

    def default_hooks(self):
        return [*super().default_hooks(), LogSamples(8, ["image", "reconstruction"]), LogDrawnImages()]

    def forward_pass(self, mini_batch):
        images = mini_batch["image"].to(self.device)
        logits, mean, log_variance = self.network(images)
        return {
            "images": images,
            "logits": logits,
            "reconstruction": logits.sigmoid(),
            "mean": mean,
            "log_variance": log_variance,
        }

    def loss_function(self, *, images, logits, mean, log_variance):
        reconstruction = binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
        divergence = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(dim=1).mean()
        return {"loss": reconstruction + divergence, "reconstruction": reconstruction, "divergence": divergence}

    def init_metrics(self):
        return None


def main():
    session = VaeSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        print(f"loss per image: {summary.best_losses['validation-valid'].loss:.2f}")


if __name__ == "__main__":
    main()
