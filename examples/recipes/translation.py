"""Translation: an encoder and a decoder with attention write dates as in ISO 8601, judged by metrics of text.

    python -m pip install torchmetrics
    python examples/recipes/translation.py

Stands for seq2seq_translation_tutorial.py of the tutorials of PyTorch. The dates are drawn by the program. Training
predicts the next character; validation writes the whole date, and the share of wrong dates votes on the best network.
"""

import datetime

import torch
from datasets import Dataset
from torch import nn
from torch.nn.functional import cross_entropy
from torchmetrics.text import CharErrorRate, WordErrorRate

from torchbase import TrainingBaseSession, ValidationDatasetsDict
from torchbase.data import pad
from torchbase.hooks import BestValidation
from torchbase.metrics import TorchMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 3,
        "mini_batch_size": 32,
        "learning_rate": 0.01,
        "seed": 1,
    },
    "data": {"dates": 1200, "validation_dates": 100, "years": [1990, 2029]},
    "metrics": {"TorchMetrics": ["wrong_dates", "wrong_characters"]},
    "network": {"architecture": "Translator", "width": 64},
}
FORMATS = ("%d %B %Y", "%B %d, %Y", "%a %d %b %Y", "%d.%m.%Y")


class Translator(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.characters = nn.Embedding(128, width)
        self.encoder, self.decoder = nn.GRU(width, width, batch_first=True), nn.GRU(width, width, batch_first=True)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.output = nn.Linear(2 * width, 128)

    def forward(self, text, is_text, written):
        encoded, _ = self.encoder(self.characters(text))
        decoded, _ = self.decoder(self.characters(written))
        attended, _ = self.attention(decoded, encoded, encoded, key_padding_mask=~is_text)
        return self.output(torch.cat([decoded, attended], dim=2))

    def write(self, text, is_text, length):
        written = torch.zeros(len(text), 1, dtype=torch.int64, device=text.device)
        for _ in range(length):
            next_character = self(text, is_text, written)[:, -1].argmax(dim=1, keepdim=True)
            written = torch.cat([written, next_character], dim=1)
        return written[:, 1:]


class TranslationSession(TrainingBaseSession):
    def init_datasets(self):
        train, valid = self.draw(self.config_data["dates"]), self.draw(self.config_data["validation_dates"])
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def draw(self, count):
        first, last = (datetime.date(year, 1, 1).toordinal() for year in self.config_data["years"])
        dates = [datetime.date.fromordinal(day) for day in torch.randint(first, last, (count,)).tolist()]
        formats = [FORMATS[index] for index in torch.randint(len(FORMATS), (count,)).tolist()]
        texts = [date.strftime(form) for date, form in zip(dates, formats, strict=True)]
        return Dataset.from_dict({"text": [list(text.encode("ascii")) for text in texts], "iso": list(map(str, dates))})

    def dataloader_collate_function(self, batch):
        return pad(batch, "text", mask="is_text")

    def init_network(self):
        return Translator(self.config_network["width"])

    def init_best_validation(self):
        return BestValidation("wrong_dates")

    def init_metrics(self):
        metrics = {"wrong_dates": WordErrorRate(), "wrong_characters": CharErrorRate()}
        return [TorchMetrics(metrics, {"written": "preds", "iso": "target"}, validation_only=True)]

    def forward_pass(self, mini_batch):
        text, is_text = mini_batch["text"].to(self.device), mini_batch["is_text"].to(self.device)
        target = torch.tensor([list(iso.encode("ascii")) for iso in mini_batch["iso"]], device=self.device)
        logits = self.network(text, is_text, nn.functional.pad(target[:, :-1], (1, 0)))
        if self.network.training:
            return {"logits": logits, "target": target}
        written = self.network.write(text, is_text, target.shape[1]).tolist()
        texts = [bytes(one).decode("ascii") for one in written]
        return {"logits": logits, "target": target, "written": texts, "iso": mini_batch["iso"]}

    def loss_function(self, *, logits, target):
        return cross_entropy(logits.flatten(0, 1), target.flatten())


def main():
    session = TranslationSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        print(f"wrong dates: {summary.averages['validation-valid']['wrong_dates']:.1%}")


if __name__ == "__main__":
    main()
