"""Distillation: a small network learns from the outputs of a larger one, which was trained before.

    python examples/recipes/distillation.py

Stands for train_student.py of RepDistiller. The images are the digits of scikit-learn. Both runs have names: after a
kill, the same command goes on with the one that hasn't ended.
"""

from pathlib import Path

import torch
from datasets import Dataset
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

from torchbase import TrainingBaseSession, ValidationDatasetsDict, split_iterables
from torchbase.metrics import MulticlassClassificationMetrics

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 6,
        "mini_batch_size": 32,
        "learning_rate": 0.005,
        "seed": 1,
    },
    "data": {"portions": [0.6, 0.4]},
    "metrics": {"MulticlassClassificationMetrics": ["accuracy"]},
    "network": {"architecture": "Perceptron", "hidden_features": 128},
}
STUDENT = {
    "architecture": "Distillation",
    "hidden_features": 16,
    "teacher_features": CONFIG["network"]["hidden_features"],
    "temperature": 4.0,
    "share_of_teacher": 0.9,
}


class Perceptron(nn.Sequential):
    def __init__(self, hidden_features):
        super().__init__(nn.Flatten(), nn.Linear(64, hidden_features), nn.ReLU(), nn.Linear(hidden_features, 10))


class Distillation(nn.Module):
    def __init__(self, student, teacher):
        super().__init__()
        self.student = student
        self.teacher = teacher.requires_grad_(False).eval()  # so it stays as it is

    def forward(self, images):
        return self.student(images)


class TeacherSession(TrainingBaseSession):
    def init_datasets(self):
        digits = load_digits()
        columns = {"image": digits.images.astype("float32") / 16, "label": digits.target}
        train, valid = map(Dataset.from_dict, split_iterables(columns, self.config_data["portions"]))
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def init_network(self):
        return Perceptron(self.config_network["hidden_features"])

    def init_metrics(self):
        return [MulticlassClassificationMetrics({"labels": "class_ground_truth", "logits": "class_scores"})]

    def forward_pass(self, mini_batch):
        logits = self.network(mini_batch["image"].to(self.device))
        return {"logits": logits, "labels": mini_batch["label"].to(self.device)}

    def loss_function(self, *, logits, labels):
        return cross_entropy(logits, labels)


class StudentSession(TeacherSession):
    def init_network(self):
        teacher = Perceptron(self.config_network["teacher_features"])
        teacher.load_state_dict(torch.load(Path(self.run_dir).parent / "teacher" / "network.pth", weights_only=True))
        return Distillation(Perceptron(self.config_network["hidden_features"]), teacher)

    def forward_pass(self, mini_batch):
        outputs = super().forward_pass(mini_batch)
        return {**outputs, "teacher_logits": self.network.teacher(mini_batch["image"].to(self.device))}

    def loss_function(self, *, logits, labels, teacher_logits):
        temperature, share = self.config_network["temperature"], self.config_network["share_of_teacher"]
        learned, taught = ((one / temperature).log_softmax(dim=1) for one in (logits, teacher_logits))
        distance = temperature**2 * kl_div(learned, taught, reduction="batchmean", log_target=True)
        return {"loss": share * distance + (1 - share) * cross_entropy(logits, labels), "distance": distance}


def main():
    teacher = TeacherSession.begin_or_resume(CONFIG, tag="teacher")()
    session = StudentSession.begin_or_resume({**CONFIG, "network": STUDENT}, tag="student")
    student = session()
    if session.processes.is_main:
        print(f"accuracy of the teacher: {teacher.averages['validation-valid']['accuracy']:.3f}")
        print(f"accuracy of the student: {student.averages['validation-valid']['accuracy']:.3f}")


if __name__ == "__main__":
    main()
