"""The digits with torchbase: the same training as in the other programs of this folder.

python examples/moving_over/with_torchbase.py
"""

from digits_data import EPOCHS, LEARNING_RATE, MINI_BATCH_SIZE, Perceptron, read_digits
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import PolynomialLR

from torchbase import TrainingBaseSession, ValidationDatasetsDict
from torchbase.hooks import EarlyStopping, GradientClipping, LearningRateSchedule

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": EPOCHS,
        "mini_batch_size": MINI_BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "seed": 1,
    },
    "network": {"architecture": "Perceptron"},
}


class DigitsSession(TrainingBaseSession):
    def init_datasets(self):
        training_set, validation_set = read_digits()
        return training_set, ValidationDatasetsDict(
            datasets=(validation_set,),
            only_for_demo=(False,),
            names=("valid",),
        )

    def init_network(self):
        return Perceptron()

    def init_scheduler(self):
        iterations = self.config_session.num_epochs * len(self.dataloader_train)

        def fall_to_zero(optimizer):
            return PolynomialLR(optimizer, iterations)

        return LearningRateSchedule(fall_to_zero, every="1it")

    def forward_pass(self, mini_batch):
        images, labels = (column.to(self.device) for column in mini_batch)
        logits = self.network(images)
        self.log("accuracy", (logits.argmax(dim=1) == labels).float().mean())
        return {"logits": logits, "labels": labels}

    def loss_function(self, *, logits, labels):
        return cross_entropy(logits, labels)

    def init_metrics(self):
        return None

    def default_hooks(self):
        techniques = [
            GradientClipping(norm=1.0),
            EarlyStopping("loss", phase="validation-valid", patience=3),
        ]
        return [*super().default_hooks(), *techniques]


if __name__ == "__main__":
    summary = DigitsSession(CONFIG)()
    print(summary.averages["validation-valid"])
