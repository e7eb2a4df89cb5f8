"""A Wasserstein GAN with gradient penalty learns to draw digits; the critic trains five times as often.

    python examples/recipes/wgan_gp.py

Stands for implementations/wgan_gp/wgan_gp.py of PyTorch-GAN. The images are the digits of scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import StackDataset

from torchbase import TrainingBaseSession, ValidationDatasetsDict, split_iterables

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_iterations": 400,
        "iterations_per_epoch": 50,
        "mini_batch_size": 64,
        "validation_mini_batch_size": 400,
        "learning_rate": 0.001,
        "seed": 1,
    },
    "data": {"portions": [0.8, 0.2], "noise_features": 16},
    "network": {"architecture": "Wgan", "width": 128, "critic_turns": 5, "penalty": 10.0},
}


class Wgan(nn.Module):
    def __init__(self, noise_features, width):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(noise_features, width), nn.ReLU(), nn.Linear(width, 64), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(64, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))


class WganSession(TrainingBaseSession):
    def init_datasets(self):
        images = torch.tensor(load_digits().data).float() / 8 - 1  # of 64 pixels, from -1 to 1
        train, valid = (StackDataset(image=part) for part in split_iterables(images, self.config_data["portions"]))
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def init_network(self):
        return Wgan(self.config_data["noise_features"], self.config_network["width"])

    def init_optimizer(self):
        parts, rate = ("critic", "generator"), self.config_session.learning_rate
        return {part: torch.optim.Adam(getattr(self.network, part).parameters(), rate, (0.5, 0.9)) for part in parts}

    def optimizer_turns(self, iteration):
        return ["critic", "generator"] if iteration % self.config_network["critic_turns"] == 0 else ["critic"]

    def init_metrics(self):
        return None

    def forward_pass(self, mini_batch):
        real = mini_batch["image"].to(self.device)
        noise = torch.randn(len(real), self.config_data["noise_features"], device=self.device)
        return {"generated": self.network.generator(noise), "real": real}

    def loss_function(self, *, generated, real):
        critic = self.network.critic
        if self.turn == "generator":
            return -critic(generated).mean()
        if self.turn == "critic":
            distance = critic(real).mean() - critic(generated).mean()
            penalty = self.config_network["penalty"] * self.penalty(real, generated)
            return {"loss": penalty - distance, "distance": distance}
        # How far means and standard deviations of pixels are from those of the digits. It votes on the best network.
        return ((generated.mean(0) - real.mean(0)).abs() + (generated.std(0) - real.std(0)).abs()).mean()

    def penalty(self, real, generated):
        """How far the slope of the critic is from 1, at random points between real and generated images."""
        place = torch.rand(len(real), 1, device=self.device)
        between = (place * real + (1 - place) * generated.detach()).requires_grad_()
        (slope,) = torch.autograd.grad(self.network.critic(between).sum(), between, create_graph=True)
        return ((slope.norm(dim=1) - 1) ** 2).mean()


def main():
    session = WganSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        print(f"distance from the digits: {summary.best_losses['validation-valid'].loss:.3f}")


if __name__ == "__main__":
    main()
