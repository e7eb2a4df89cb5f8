"""A GAN learns to draw digits: two optimizers in a session, with clipping, averaged weights and a schedule for each.

    python examples/gan.py

Stands for dcgan/main.py of pytorch/examples. The images are the digits of scikit-learn. Kill it at any moment:
``python examples/gan.py resume`` goes on, and ends with the same bits.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import softplus
from torch.optim.lr_scheduler import ExponentialLR

from torchbase import TrainingBaseSession, ValidationDatasetsDict, split_iterables
from torchbase.hooks import ExponentialMovingAverage, GradientClipping, LearningRateSchedule

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 10,
        "mini_batch_size": 64,
        "validation_mini_batch_size": 1000,
        "learning_rate": 0.004,
        "seed": 1,
    },
    "network": {"architecture": "Gan"},
}


class Gan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh())
        self.discriminator = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(128, 1))


class GanSession(TrainingBaseSession):
    def default_hooks(self):
        # Clips the gradients of each turn, and validates with averaged weights.
        return [*super().default_hooks(), GradientClipping(norm=1.0), ExponentialMovingAverage(0.98)]

    def init_datasets(self):
        images = torch.tensor(load_digits().data).float() / 8 - 1  # 1,797 images of 64 pixels from -1 to 1
        training, valid = (torch.utils.data.StackDataset(image=part) for part in split_iterables(images, (0.8, 0.2)))
        return training, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def init_network(self):
        return Gan()

    def init_optimizer(self):
        parts, rate = ("discriminator", "generator"), self.config_session.learning_rate
        return {part: torch.optim.Adam(getattr(self.network, part).parameters(), rate, (0.5, 0.999)) for part in parts}

    def init_scheduler(self):
        return {
            "discriminator": ExponentialLR(self.optimizer["discriminator"], 0.9),  # stepped after each epoch
            "generator": LearningRateSchedule(lambda optimizer: ExponentialLR(optimizer, 0.995), every="1it"),
        }

    def forward_pass(self, mini_batch):
        real = mini_batch["image"].to(self.device)
        generated = self.network.generator(torch.randn(len(real), 16, device=self.device))
        if self.turn is None:  # in validation, the images themselves
            return {"generated": generated, "real": real}
        return {"generated": self.network.discriminator(generated), "real": self.network.discriminator(real)}

    def loss_function(self, *, generated, real):
        # The discriminator returns the logit of being real; softplus(-logit) is the cross entropy with "real".
        if self.turn == "discriminator":
            return (softplus(-real) + softplus(generated)).mean()
        if self.turn == "generator":
            return softplus(-generated).mean()
        # How far means and standard deviations of pixels are from those of the digits. It votes on the best network.
        return ((generated.mean(0) - real.mean(0)).abs() + (generated.std(0) - real.std(0)).abs()).mean()

    def init_metrics(self):
        return None


def main():
    session = GanSession.resume() if sys.argv[1:] == ["resume"] else GanSession(CONFIG)
    untrained = session.evaluate(session.datasets_valid_dict["valid"])["loss"]
    summary = session()
    if session.processes.is_main:
        print({name: round(value, 3) for name, value in summary.averages["training"].items()})
        print(f"distance from the digits before: {untrained:.3f}")
        print(f"distance from the digits after: {summary.best_losses['validation-valid'].loss:.3f}")
        print(f"the run is in {summary.run_dir}")


if __name__ == "__main__":
    main()
