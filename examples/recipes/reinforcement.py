"""Reinforcement learning: a policy keeps a pole upright on a cart, trained by REINFORCE with a learned baseline.

    python examples/recipes/reinforcement.py

Stands for reinforcement_learning/actor_critic.py of pytorch/examples. A mini-batch is where episodes start, and
forward_pass plays them: what it draws is seeded for each iteration, so a resumed run plays the same episodes.
"""

import torch
from datasets import Dataset
from torch import nn

from torchbase import TrainingBaseSession, ValidationDatasetsDict
from torchbase.hooks import BestValidation, GradientClipping

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_iterations": 30,
        "iterations_per_epoch": 10,
        "mini_batch_size": 16,
        "learning_rate": 0.01,
        "seed": 1,
    },
    "data": {"starts": 512, "validation_starts": 16, "most_steps": 80, "discount": 0.97},
    "network": {"architecture": "ActorCritic", "hidden_features": 32},
}


class ActorCritic(nn.Module):
    def __init__(self, hidden_features):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, hidden_features), nn.Tanh())
        self.actor, self.critic = nn.Linear(hidden_features, 2), nn.Linear(hidden_features, 1)

    def forward(self, states):
        features = self.trunk(states)
        return self.actor(features), self.critic(features).squeeze(-1)


def step(states, actions):
    """The cart and its pole a fiftieth of a second later, for a push to the left (0) or to the right (1)."""
    speed, angle, rotation = states[:, 1:].unbind(1)
    push = (20.0 * actions - 10.0 + 0.05 * rotation**2 * angle.sin()) / 1.1
    turn = (9.8 * angle.sin() - angle.cos() * push) / (0.5 * (4 / 3 - 0.1 * angle.cos() ** 2 / 1.1))
    change = torch.stack([speed, push - 0.05 * turn * angle.cos() / 1.1, rotation, turn], dim=1)
    states = states + 0.02 * change
    return states, (states[:, 0].abs() < 2.4) & (states[:, 2].abs() < 0.21)


class CartPoleSession(TrainingBaseSession):
    def init_datasets(self):
        train, valid = (
            Dataset.from_dict({"state": (0.1 * torch.rand(self.config_data[key], 4) - 0.05).numpy()})
            for key in ("starts", "validation_starts")
        )
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def init_network(self):
        return ActorCritic(self.config_network["hidden_features"])

    def default_hooks(self):
        return [*super().default_hooks(), GradientClipping(norm=1.0)]

    def init_best_validation(self):
        return BestValidation("steps", mode="max")

    def init_metrics(self):
        return None

    def forward_pass(self, mini_batch):
        states = mini_batch["state"].to(self.device)
        is_up, played = torch.ones(len(states), dtype=torch.bool, device=self.device), []
        for _ in range(self.config_data["most_steps"]):
            logits, values = self.network(states)
            policy = logits.log_softmax(dim=1)
            actions = policy.exp().multinomial(1) if self.network.training else logits.argmax(dim=1, keepdim=True)
            played.append((policy.gather(1, actions).squeeze(1), values, is_up.float()))
            states, stays_up = step(states, actions.squeeze(1))
            is_up = is_up & stays_up
        log_probabilities, values, rewards = map(torch.stack, zip(*played, strict=True))
        self.log("steps", rewards.sum(dim=0).mean())
        return {"log_probabilities": log_probabilities, "values": values, "rewards": rewards}

    def loss_function(self, *, log_probabilities, values, rewards):
        returns = torch.zeros_like(rewards)
        for time in reversed(range(len(rewards))):
            later = returns[time + 1] if time + 1 < len(rewards) else 0.0
            returns[time] = rewards[time] + self.config_data["discount"] * later
        advantage = returns - values.detach()
        actor = -(log_probabilities * advantage * rewards).mean()
        critic = ((returns - values) ** 2 * rewards).mean()
        return {"loss": actor + 0.1 * critic, "actor": actor, "critic": critic}


def main():
    session = CartPoleSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        print(f"steps upright: {summary.averages['validation-valid']['steps']:.1f}")


if __name__ == "__main__":
    main()
