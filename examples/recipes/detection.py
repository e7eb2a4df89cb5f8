"""Object detection: a network that finds any number of rectangles in an image.

    python examples/recipes/detection.py

Stands for references/detection/train.py of torchvision. The images are drawn by the program: zero to three rectangles
on noise. As the detectors of torchvision, the network returns losses in training and predictions in validation, so the
average precision of the predictions votes on the best network.
"""

import torch
from datasets import Dataset
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from torchbase import BaseMetricsClass, TrainingBaseSession, ValidationDatasetsDict
from torchbase.hooks import BestValidation
from torchbase.metrics import higher_is_better

CONFIG = {
    "session": {
        "device_name": "cpu",
        "num_epochs": 10,
        "mini_batch_size": 32,
        "learning_rate": 0.01,
        "seed": 1,
    },
    "data": {"images": 256, "validation_images": 64, "size": 32, "most_boxes": 3},
    "metrics": {"DetectionMetrics": ["average_precision"]},
    "network": {"architecture": "Detector", "channels": 16, "cell": 4},
}


class Detector(nn.Module):
    """Each cell of the image predicts whether the center of a box is in it, and the box: center, width and height."""

    def __init__(self, channels, cell):
        super().__init__()
        self.cell = cell
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 2 * channels, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 5, 1),
        )

    def forward(self, images, boxes=None):
        logits, *box = self.layers(images.unsqueeze(1)).unbind(1)
        box = torch.stack(box, dim=-1)
        if self.training:
            return self.losses(logits, box, boxes)
        rows, columns = (torch.arange(size, device=images.device) for size in logits.shape[1:])
        corner = self.cell * torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        found = torch.cat([corner + self.cell * box[..., :2], self.cell * box[..., 2:].exp()], dim=-1)
        chosen = logits.sigmoid() > 0.05
        return {
            "found": [one[where] for one, where in zip(found, chosen, strict=True)],
            "scores": [one[where].sigmoid() for one, where in zip(logits, chosen, strict=True)],
        }

    def losses(self, logits, box, boxes):
        image = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(one) for one in boxes]))
        true = torch.cat(boxes) / self.cell
        column, row = true[:, :2].long().unbind(1)
        has_center = torch.zeros_like(logits)
        has_center[image, row, column] = 1.0
        target = torch.cat([true[:, :2].frac(), true[:, 2:].log()], dim=1)
        return {
            "objectness": binary_cross_entropy_with_logits(logits, has_center, reduction="sum") / len(logits),
            "box": smooth_l1_loss(box[image, row, column], target, reduction="sum") / len(logits),
        }


class DetectionMetrics(BaseMetricsClass):
    @higher_is_better
    def average_precision(self, *, found, scores, boxes):
        """The area under the curve of precision over recall; a box is right once, with an overlap of 0.5 or more."""
        is_right = torch.cat([are_right(*one) for one in zip(found, scores, boxes, strict=True)])
        ranked = is_right[torch.cat(scores).argsort(descending=True)].float()
        precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
        return (precision * ranked).sum() / sum(map(len, boxes))


def are_right(found, scores, boxes):
    is_right, overlap = torch.zeros(len(found), dtype=torch.bool), overlaps(found, boxes)
    for one in scores.argsort(descending=True):
        if len(boxes) and overlap[one].max() >= 0.5:
            is_right[one] = True
            overlap[:, overlap[one].argmax()] = 0.0  # each true box is found once
    return is_right


def overlaps(first, second):
    """The intersection over the union of each pair of boxes, shape (first, second)."""
    first, second = first[:, None], second[None]
    low = torch.maximum(first[..., :2] - first[..., 2:] / 2, second[..., :2] - second[..., 2:] / 2)
    high = torch.minimum(first[..., :2] + first[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2)
    common = (high - low).clamp(min=0).prod(dim=-1)
    return common / (first[..., 2:].prod(dim=-1) + second[..., 2:].prod(dim=-1) - common)


class DetectionSession(TrainingBaseSession):
    def init_datasets(self):
        train, valid = self.draw(self.config_data["images"]), self.draw(self.config_data["validation_images"])
        return train, ValidationDatasetsDict(datasets=(valid,), only_for_demo=(False,), names=("valid",))

    def draw(self, count):
        size = self.config_data["size"]
        images, boxes = 0.3 * torch.rand(count, size, size), []
        for image in images:
            boxes.append([])
            for _ in range(torch.randint(self.config_data["most_boxes"] + 1, ())):
                width, height = torch.randint(6, 13, (2,)).tolist()
                left, top = torch.randint(size - 12, (2,)).tolist()
                image[top : top + height, left : left + width] += 0.6
                boxes[-1].append([left + width / 2, top + height / 2, width, height])
        return Dataset.from_dict({"image": images.numpy(), "boxes": boxes})

    def init_network(self):
        return Detector(self.config_network["channels"], self.config_network["cell"])

    def init_best_validation(self):
        return BestValidation("average_precision")

    def init_metrics(self):
        return [DetectionMetrics(validation_only=True)]

    def forward_pass(self, mini_batch):
        boxes = [one.to(self.device) for one in mini_batch["boxes"]]
        return {**self.network(mini_batch["image"].to(self.device), boxes), "boxes": boxes}

    def loss_function(self, *, objectness=None, box=None):
        if objectness is None:  # in validation
            return None
        return {"loss": objectness + box, "objectness": objectness.detach(), "box": box.detach()}


def main():
    session = DetectionSession(CONFIG)
    summary = session()
    if session.processes.is_main:
        print(f"average precision: {summary.averages['validation-valid']['average_precision']:.3f}")


if __name__ == "__main__":
    main()
