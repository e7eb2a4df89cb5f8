"""A language model on random crops of a long text: a small GPT that predicts the next character.

    python examples/recipes/language_model.py

Stands for train.py of nanoGPT. The text is Python's own documentation, which comes with Python. A text of any length
can be a memory map: numpy.memmap("train.bin", dtype=numpy.uint16, mode="r").
"""

from pydoc_data.topics import topics

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from torchbase import TrainingBaseSession, ValidationDatasetsDict
from torchbase.data import RandomCrops, Windows
from torchbase.hooks import GradientClipping, LearningRateSchedule

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_iterations": 120,
        "iterations_per_epoch": 40,
        "mini_batch_size": 16,
        "validation_mini_batch_size": 64,
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "seed": 1,
    },
    "data": {"characters": 200_000, "validation_characters": 10_000},
    "network": {"architecture": "GPT", "context": 32, "layers": 2, "heads": 4, "width": 64, "dropout": 0.0},
}


class Block(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        heads = self.queries_keys_values(self.before_attention(x)).unflatten(2, (3, self.heads, -1))
        attended = scaled_dot_product_attention(*heads.permute(2, 0, 3, 1, 4), is_causal=True)
        x = x + self.dropout(self.joined(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.perceptron(self.before_perceptron(x)))


class GPT(nn.Module):
    def __init__(self, context, layers, heads, width, dropout):
        super().__init__()
        self.characters, self.positions = nn.Embedding(128, width), nn.Embedding(context, width)
        blocks = [Block(width, heads, dropout) for _ in range(layers)]
        self.layers = nn.Sequential(nn.Dropout(dropout), *blocks, nn.LayerNorm(width))
        self.output = nn.Linear(width, 128, bias=False)
        for weight in self.parameters():
            if weight.ndim >= 2:
                nn.init.normal_(weight, std=0.02)

    def forward(self, characters):
        positions = torch.arange(characters.shape[1], device=characters.device)
        return self.output(self.layers(self.characters(characters) + self.positions(positions)))

    @torch.no_grad()
    def continue_text(self, text, length):
        characters = torch.tensor([list(text.encode("ascii"))], device=self.output.weight.device)
        for _ in range(length):
            logits = self(characters[:, -self.positions.num_embeddings :])[:, -1]
            characters = torch.cat([characters, logits.softmax(dim=1).multinomial(1)], dim=1)
        return bytes(characters[0].tolist()).decode("ascii")


class LanguageModelSession(TrainingBaseSession):
    def init_datasets(self):
        text = "".join(topics.values())[: self.config_data["characters"]].encode("ascii", "replace")
        characters, length = np.frombuffer(text, dtype=np.uint8), self.config_network["context"] + 1
        train, valid = np.split(characters, [-self.config_data["validation_characters"]])
        return RandomCrops(train, length), ValidationDatasetsDict(
            datasets=(Windows(valid, length, stride=length - 1),), only_for_demo=(False,), names=("valid",)
        )

    def init_network(self):
        return GPT(**{key: value for key, value in self.config_network.items() if key != "architecture"})

    def init_optimizer(self):
        matrices = [one for one in self.network.parameters() if one.ndim >= 2]
        others = [one for one in self.network.parameters() if one.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": self.config_session.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config_session.learning_rate, betas=(0.9, 0.95))

    def init_scheduler(self):
        def warm_up_and_anneal(optimizer):
            warm_up = LinearLR(optimizer, 0.01, total_iters=20)
            anneal = CosineAnnealingLR(optimizer, self.config_session.num_iterations - 20)
            return SequentialLR(optimizer, [warm_up, anneal], milestones=[20])

        return LearningRateSchedule(warm_up_and_anneal, every="1it")

    def default_hooks(self):
        return [*super().default_hooks(), GradientClipping(norm=1.0)]

    def forward_pass(self, mini_batch):
        window = mini_batch["window"].to(self.device)
        return {"logits": self.network(window[:, :-1]), "targets": window[:, 1:]}

    def loss_function(self, *, logits, targets):
        return cross_entropy(logits.flatten(0, 1), targets.flatten())

    def init_metrics(self):
        return None


def main():
    session = LanguageModelSession(CONFIG)
    summary = session()
    session.load_best_network()
    if session.processes.is_main:
        print(f"loss per character: {summary.best_losses['validation-valid'].loss:.3f}")
        print(session.network.eval().continue_text("The ", 100))


if __name__ == "__main__":
    main()
