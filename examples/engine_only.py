"""The Engine without a session: a GAN with two optimizers learns to draw digits.

    python examples/engine_only.py

No file is written: the engine only needs a function for one iteration, and a run.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import softplus

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.hooks import MetricAverages

torch.manual_seed(1)
digits = torch.tensor(load_digits().data).float() / 8 - 1  # 1,797 images of 64 pixels from -1 to 1
loader = torch.utils.data.DataLoader(digits, batch_size=64, shuffle=True, drop_last=True)
generator = nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh())
discriminator = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(128, 1))
generator_optimizer = torch.optim.Adam(generator.parameters(), lr=0.001, betas=(0.5, 0.999))
discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.001, betas=(0.5, 0.999))


def step(run, phase, batch):
    generated = generator(torch.randn(len(batch), 16))
    # The discriminator returns the logit of being real; softplus(-logit) is the cross entropy with "real".
    discriminator_loss = (softplus(-discriminator(batch)) + softplus(discriminator(generated.detach()))).mean()
    discriminator_optimizer.zero_grad()
    discriminator_loss.backward()
    discriminator_optimizer.step()
    generator_loss = softplus(-discriminator(generated)).mean()
    generator_optimizer.zero_grad()
    generator_loss.backward()
    generator_optimizer.step()
    run.log("discriminator", discriminator_loss)
    run.log("generator", generator_loss)


class EpochLines:
    @hookimpl
    def on_epoch_end(self, run):
        print(f"epoch {run.epoch}:", {name: round(loss, 3) for name, loss in run.training.averages.items()})


@torch.no_grad()
def distance():
    """How far the means and standard deviations of pixels are from those of the digits, averaged over the pixels."""
    images = generator(torch.randn(1000, 16))
    return ((images.mean(0) - digits.mean(0)).abs() + (images.std(0) - digits.std(0)).abs()).mean()


if __name__ == "__main__":
    engine = Engine(step, hooks=[MetricAverages(), EpochLines()])
    print(f"distance from the digits before: {distance():.3f}")
    engine.run(Run(training=Phase("training", loader, is_training=True), max_epochs=30))
    print(f"distance from the digits after: {distance():.3f}")
