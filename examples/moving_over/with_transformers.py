"""The digits with the Trainer of Hugging Face (`pip install transformers accelerate`); see with_torchbase.py.

python examples/moving_over/with_transformers.py
"""

import torch
from digits_data import EPOCHS, LEARNING_RATE, MINI_BATCH_SIZE, Perceptron, read_digits
from torch.nn.functional import cross_entropy
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments


class DigitsModel(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images, labels):
        logits = self.network(images)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def collate(samples):
    images, labels = zip(*samples, strict=True)
    return {"images": torch.stack(images), "labels": torch.stack(labels)}


def compute_metrics(predictions):
    logits, labels = predictions
    return {"accuracy": (logits.argmax(axis=1) == labels).mean()}


def train(network, training_set, validation_set):
    trainer = Trainer(
        DigitsModel(network),
        TrainingArguments(
            "trainer",
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=MINI_BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="linear",  # the default, without warm-up
            max_grad_norm=1.0,  # the default
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="loss",
            use_cpu=True,
            report_to="none",
        ),
        data_collator=collate,
        train_dataset=training_set,
        eval_dataset=validation_set,
        compute_metrics=compute_metrics,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
    )
    trainer.train()
    values = [values for values in trainer.state.log_history if "eval_loss" in values][-1]
    return {"loss": values["eval_loss"], "accuracy": values["eval_accuracy"]}


if __name__ == "__main__":
    torch.manual_seed(1)
    print(train(Perceptron(), *read_digits()))
