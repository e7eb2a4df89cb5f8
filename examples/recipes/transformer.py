"""Fine-tuning a transformer of Hugging Face: BERT classifies sentences.

    python -m pip install transformers
    python examples/recipes/transformer.py

Stands for run_glue_no_trainer.py of transformers. So that nothing is downloaded, the sentences are drawn by the
program, a token is a word, and BERT is small and untrained. With AutoTokenizer.from_pretrained(name) and
BertForSequenceClassification.from_pretrained(name) in their place, all else stays.
"""

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
from transformers import get_linear_schedule_with_warmup as linear_schedule

from torchbase import TrainingBaseSession, ValidationDatasetsDict
from torchbase.hooks import GradientClipping, LearningRateSchedule
from torchbase.metrics import MulticlassClassificationMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_iterations": 60,
        "iterations_per_epoch": 20,
        "mini_batch_size": 32,
        "learning_rate": 0.002,
        "weight_decay": 0.01,
        "seed": 1,
    },
    "data": {"sentences": 640, "validation_sentences": 100},
    "metrics": {"MulticlassClassificationMetrics": ["accuracy"]},
    "network": {"architecture": "BertForSequenceClassification", "layers": 2, "width": 32, "heads": 2},
}
OPINIONS = ["dull", "awful", "boring", "clumsy", "great", "lovely", "superb", "charming"]  # four bad, four good
OTHERS = ["the", "film", "is", "and", "very", "a", "plot", "with", "actors", "was", "really", "about"]
TOKENS = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *OPINIONS, *OTHERS])}


class SentenceSession(TrainingBaseSession):
    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        words = Tokenizer(WordLevel(TOKENS, unk_token="[UNK]"))
        words.pre_tokenizer = Whitespace()
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")

    def init_datasets(self):
        train, valid = self.draw(self.config_data["sentences"]), self.draw(self.config_data["validation_sentences"])
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def draw(self, count):
        opinions, sentences = torch.randint(len(OPINIONS), (count,)), []
        for opinion in opinions:
            words = [OTHERS[one] for one in torch.randint(len(OTHERS), (int(torch.randint(3, 12, ())),))]
            words[torch.randint(len(words), ())] = OPINIONS[opinion]
            sentences.append(" ".join(words))
        return Dataset.from_dict({"sentence": sentences, "label": (opinions >= 4).long().tolist()})

    def dataloader_collate_function(self, batch):
        tokens = self.tokenizer([one["sentence"] for one in batch], padding=True, return_tensors="pt")
        tokens["labels"] = torch.tensor([one["label"] for one in batch])
        return tokens

    def init_network(self):
        network = self.config_network
        sizes = {"hidden_size": network["width"], "intermediate_size": 4 * network["width"]}
        layers = {"num_hidden_layers": network["layers"], "num_attention_heads": network["heads"]}
        return BertForSequenceClassification(BertConfig(vocab_size=len(TOKENS), **sizes, **layers))

    def init_optimizer(self):
        session = self.config_session
        decayed = [one for one in self.network.parameters() if one.ndim >= 2]
        others = [one for one in self.network.parameters() if one.ndim < 2]
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=session.learning_rate, weight_decay=session.weight_decay)

    def init_scheduler(self):
        steps = self.config_session.num_iterations
        return LearningRateSchedule(lambda optimizer: linear_schedule(optimizer, steps // 10, steps), every="1it")

    def default_hooks(self):
        return [*super().default_hooks(), GradientClipping(norm=1.0)]

    def init_metrics(self):
        return [MulticlassClassificationMetrics({"labels": "class_ground_truth", "logits": "class_scores"})]

    def forward_pass(self, mini_batch):
        batch = mini_batch.to(self.device)
        output = self.network(**batch)
        return {"network_loss": output.loss, "logits": output.logits, "labels": batch["labels"]}

    def loss_function(self, *, network_loss):
        return network_loss


def main():
    session = SentenceSession(CONFIG)
    summary = session()
    session.load_best_network()
    if session.processes.is_main:
        session.network.save_pretrained(f"{summary.run_dir}/pretrained")
        session.tokenizer.save_pretrained(f"{summary.run_dir}/pretrained")
        print(f"accuracy: {summary.averages['validation-valid']['accuracy']:.3f}")


if __name__ == "__main__":
    main()
