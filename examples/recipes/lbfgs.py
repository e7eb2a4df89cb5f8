"""A recurrent network continues sine waves, trained by LBFGS on all of them at once.

    python examples/recipes/lbfgs.py

Stands for time_sequence_prediction/train.py of pytorch/examples. The waves are drawn by the program. Each step of LBFGS
evaluates the loss several times; the hook ClosureStep computes it again on the same mini-batch.
"""

import torch
from datasets import Dataset
from torch import nn
from torch.nn.functional import mse_loss

from torchbase import TrainingBaseSession, ValidationDatasetsDict
from torchbase.hooks import ClosureStep

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 6,
        "mini_batch_size": 24,
        "learning_rate": 0.8,
        "seed": 1,
    },
    "data": {"waves": 24, "validation_waves": 8, "length": 60, "period": 20.0},
    "network": {"architecture": "Continuation", "hidden_features": 24},
}


class Continuation(nn.Module):
    def __init__(self, hidden_features):
        super().__init__()
        self.layers = nn.LSTM(1, hidden_features, num_layers=2, batch_first=True)
        self.output = nn.Linear(hidden_features, 1)

    def forward(self, wave):
        features, _ = self.layers(wave.unsqueeze(2))
        return self.output(features).squeeze(2)

    @torch.no_grad()
    def continue_wave(self, wave, steps):
        for _ in range(steps):
            wave = torch.cat([wave, self(wave)[:, -1:]], dim=1)
        return wave


class WaveSession(TrainingBaseSession):
    def init_datasets(self):
        train, valid = self.draw(self.config_data["waves"]), self.draw(self.config_data["validation_waves"])
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def draw(self, count):
        starts = torch.rand(count, 1) * 4 * self.config_data["period"]
        times = starts + torch.arange(self.config_data["length"])
        return Dataset.from_dict({"wave": (times * 2 * torch.pi / self.config_data["period"]).sin().numpy()})

    def init_network(self):
        return Continuation(self.config_network["hidden_features"])

    def init_optimizer(self):
        rate = self.config_session.learning_rate
        return torch.optim.LBFGS(self.network.parameters(), lr=rate, line_search_fn="strong_wolfe")

    def default_hooks(self):
        return [*super().default_hooks(), ClosureStep()]

    def init_metrics(self):
        return None

    def forward_pass(self, mini_batch):
        wave = mini_batch["wave"].to(self.device)
        return {"output": self.network(wave[:, :-1]), "target": wave[:, 1:]}

    def loss_function(self, *, output, target):
        return mse_loss(output, target)


def main():
    session = WaveSession(CONFIG)
    session()
    session.load_best_network()
    if session.processes.is_main:
        wave = torch.tensor(session.datasets_valid_dict["valid"]["wave"])
        half = wave.shape[1] // 2
        continued = session.network.eval().continue_wave(wave[:, :half], half)
        print(f"error of the continued waves: {mse_loss(continued[:, half:], wave[:, half:]).sqrt():.3f}")


if __name__ == "__main__":
    main()
