"""Forecasting: a recurrent network predicts the next day of a time series from the week before.

    python examples/recipes/time_series.py

Stands for main.py of LSTNet. The series is drawn by the program: the hourly load of a power grid, with a daily and a
weekly cycle. The windows overlap and nothing is copied, so a series of any length can be a memory map. The last hours
validate.
"""

import math

import torch
from torch import nn
from torch.nn.functional import l1_loss

from torchbase import TrainingBaseSession, ValidationDatasetsDict
from torchbase.data import Windows
from torchbase.metrics import RegressionMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 8,
        "mini_batch_size": 64,
        "learning_rate": 0.01,
        "seed": 1,
    },
    "data": {"hours": 24 * 400, "validation_hours": 24 * 80, "stride": 4},
    "metrics": {"RegressionMetrics": ["forecast_mean_absolute_error", "last_week_mean_absolute_error"]},
    "network": {"architecture": "Forecaster", "hidden_features": 32},
}


class Forecaster(nn.Module):
    """Reads one day after the other, and predicts how the next day differs from the same day of the last week."""

    def __init__(self, hidden_features):
        super().__init__()
        self.days = nn.GRU(24, hidden_features, batch_first=True)
        self.difference = nn.Linear(hidden_features, 24)

    def forward(self, week):
        days, _ = self.days(week)
        return week[:, 0] + self.difference(days[:, -1])


class ForecastSession(TrainingBaseSession):
    def init_datasets(self):
        series = self.draw(self.config_data["hours"])
        train, valid = series.tensor_split([-self.config_data["validation_hours"]])
        mean, deviation = train.mean(), train.std()
        train, valid = (
            Windows((part - mean) / deviation, 8 * 24, stride=self.config_data["stride"]) for part in (train, valid)
        )
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def draw(self, hours):
        hour = torch.arange(hours)
        is_weekend = (hour // 24 % 7 >= 5).float()
        trend = torch.randn(hours // 24).cumsum(0).repeat_interleave(24)
        daily = (1 - 0.5 * is_weekend) * torch.sin(2 * math.pi * hour / 24)
        return 50 + 10 * daily + trend + torch.randn(hours)

    def init_network(self):
        return Forecaster(self.config_network["hidden_features"])

    def init_metrics(self):
        return [
            RegressionMetrics({"day": "target_values", "forecast": "predicted_values"}, prefix="forecast"),
            RegressionMetrics({"day": "target_values", "last_week": "predicted_values"}, prefix="last_week"),
        ]

    def forward_pass(self, mini_batch):
        days = mini_batch["window"].to(self.device).unflatten(1, (8, 24))
        return {"day": days[:, 7], "last_week": days[:, 0], "forecast": self.network(days[:, :7])}

    def loss_function(self, *, day, forecast):
        return l1_loss(forecast, day)


def main():
    session = ForecastSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        averages = summary.averages["validation-valid"]
        print(f"error of the forecast: {averages['forecast_mean_absolute_error']:.3f}")
        print(f"error of the same day of last week: {averages['last_week_mean_absolute_error']:.3f}")


if __name__ == "__main__":
    main()
