"""Image reconstruction: a network removes noise from photographs, validated at two levels of noise.

    python examples/denoising.py

The photographs are the two sample images of scikit-learn, cut into patches: the left part of each for training, the
right part for validation. Noise is added when a patch is read, so it differs in every epoch.
"""

import torch
from datasets import Dataset
from sklearn.datasets import load_sample_images

from torchbase import BaseMetricsClass, TrainingBaseSession, ValidationDatasetsDict
from torchbase.metrics import ImageReconstructionMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 5,
        "mini_batch_size": 16,
        "learning_rate": 0.003,
        "seed": 1,
    },
    # Noise levels are standard deviations, where 0 is black and 1 is white.
    "data": {"patch_size": 24, "training_columns": 432, "lowest_noise": 0.05, "noise": 0.1, "strong_noise": 0.2},
    "metrics": {"ImageReconstructionMetrics": ["psnr"], "NoisyImageMetrics": ["psnr_of_noisy"]},
    "network": {"architecture": "ResidualDenoiser", "channels": 16},
}


class ResidualDenoiser(torch.nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.find_noise = torch.nn.Sequential(
            torch.nn.Conv2d(1, channels, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(channels, channels, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(channels, channels, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(channels, 1, 3, padding=1),
        )

    def forward(self, noisy):
        return noisy - self.find_noise(noisy)


class NoisyImageMetrics(BaseMetricsClass):
    """A custom metric: the quality of the network's input."""

    def psnr_of_noisy(self, *, clean, noisy):
        return ImageReconstructionMetrics().psnr(target_image=clean, output_image=noisy)


class DenoisingSession(TrainingBaseSession):
    def init_datasets(self):
        data = self.config_data
        photographs = [torch.tensor(image).float().mean(dim=2) / 255 for image in load_sample_images().images]
        train = self.cut([photograph[:, : data["training_columns"]] for photograph in photographs])
        valid = self.cut([photograph[:, data["training_columns"] :] for photograph in photographs])
        train = train.with_transform(AddNoise(data["lowest_noise"], data["strong_noise"]))
        return train, ValidationDatasetsDict(
            datasets=(
                train,
                valid.with_transform(AddNoise(data["noise"], data["noise"])),
                valid.with_transform(AddNoise(data["strong_noise"], data["strong_noise"])),
            ),
            only_for_demo=(True, False, False),
            names=("train", "valid", "valid-strong"),
        )

    def cut(self, photographs):
        size = self.config_data["patch_size"]
        patches = [
            photograph.unfold(0, size, size).unfold(1, size, size).reshape(-1, 1, size, size)
            for photograph in photographs
        ]
        return Dataset.from_dict({"clean": torch.cat(patches).numpy()})

    def init_network(self):
        return ResidualDenoiser(self.config_network["channels"])

    def init_metrics(self):
        return [
            ImageReconstructionMetrics(keyword_maps={"clean": "target_image", "denoised": "output_image"}),
            NoisyImageMetrics(),
        ]

    def forward_pass(self, mini_batch):
        clean, noisy = mini_batch["clean"].to(self.device), mini_batch["noisy"].to(self.device)
        return {"clean": clean, "noisy": noisy, "denoised": self.network(noisy)}

    def loss_function(self, *, clean, denoised):
        return torch.nn.functional.mse_loss(denoised, clean)


class AddNoise:
    """Adds noise to patches when they are read, with a random strength for each patch."""

    def __init__(self, lowest: float, highest: float) -> None:
        self.lowest, self.highest = lowest, highest

    def __call__(self, patches):
        clean = torch.tensor(patches["clean"])
        strength = self.lowest + (self.highest - self.lowest) * torch.rand(len(clean), 1, 1, 1)
        return {"clean": clean, "noisy": clean + strength * torch.randn_like(clean)}


if __name__ == "__main__":
    summary = DenoisingSession(CONFIG)()
    for phase, averages in summary.averages.items():
        print(f"{phase}: {averages['psnr_of_noisy']:.1f} dB noisy, {averages['psnr']:.1f} dB denoised")
    print(f"the run is in {summary.run_dir}")
