"""A whole project as a user would write it, from the first config to the third run."""

import copy
import json
from pathlib import Path

import torch
from datasets import Dataset
from tiny import read_scalars

from torchbase import TrainingBaseSession
from torchbase.utils import ValidationDatasetsDict, split_iterables
from torchbase.utils.metrics_instances import BinaryClassificationMetrics, ImageReconstructionMetrics

CONFIG = {
    "session": {"device_name": "cpu", "num_epochs": 3, "mini_batch_size": 6, "learning_rate": 0.01},
    "data": {"image_size": (2, 12, 12), "split_portions": (0.8, 0.2), "noise": 0.1},
    "metrics": {
        "BinaryClassificationMetrics": ["precision_micro", "f1_score_micro"],
        "ImageReconstructionMetrics": ["psnr"],
    },
    "network": {"architecture": "ConvolutionalStack", "num_ch": 2, "num_layers": 3},
}


class ConvolutionalStack(torch.nn.Module):
    def __init__(self, num_ch, num_layers):
        super().__init__()
        layers = [torch.nn.Conv2d(num_ch, num_ch, 3, padding="same") for _ in range(num_layers)]
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, images):
        return self.layers(images)


class ImageSession(TrainingBaseSession):
    def __init__(self, config, number_of_images, **arguments):
        super().__init__(config, **arguments)
        self.number_of_images = number_of_images

    def init_datasets(self):
        images = [torch.rand(self.config_data["image_size"]).numpy() for _ in range(self.number_of_images)]
        train, valid = split_iterables(images, portions=self.config_data["split_portions"], shuffle=True)

        def add_noise(batch):
            noise = self.config_data["noise"]
            noisy = [
                torch.tensor(image) + noise * torch.randn(self.config_data["image_size"]) for image in batch["image"]
            ]
            return {"image": noisy, "name": batch["name"]}

        def dataset(part):
            return Dataset.from_dict({"image": part, "name": [f"image {number}" for number in range(len(part))]})

        return dataset(train).with_transform(add_noise), ValidationDatasetsDict(
            datasets=(dataset(train), dataset(valid), dataset(valid).with_transform(add_noise)),
            only_for_demo=(True, False, False),
            names=("train", "valid", "valid-aug"),
        )

    def init_network(self):
        return ConvolutionalStack(self.config_network["num_ch"], self.config_network["num_layers"])

    def forward_pass(self, mini_batch):
        image = mini_batch["image"].to(self.device)
        output = self.network(image)
        return {
            "output": output,
            "target": image,
            "gt_for_metrics": image.clamp(0, 1).round(),
            "predictions_for_metrics": output.sigmoid(),
        }

    def loss_function(self, *, output, target):
        return torch.nn.functional.mse_loss(output, target)

    def init_metrics(self):
        return [
            BinaryClassificationMetrics(
                keyword_maps={
                    "gt_for_metrics": "binary_ground_truth",
                    "predictions_for_metrics": "prediction_probabilities",
                }
            ),
            ImageReconstructionMetrics(keyword_maps={"target": "target_image", "output": "output_image"}),
        ]


def start(tmp_path, config=CONFIG, **arguments):
    return ImageSession(config, 40, runs_parent_dir=tmp_path, **arguments)


def test_the_whole_story(tmp_path):
    config = copy.deepcopy(CONFIG)
    session = start(tmp_path, config)
    run_dir = Path(session.run_dir)
    assert run_dir.parent == tmp_path
    assert config == CONFIG
    summary = session()

    assert summary.epochs_done == 3
    assert summary.best_losses.keys() == {f"validation-{name}" for name in ("train", "valid", "valid-aug")}
    names = {"loss", "precision_micro", "f1_score_micro", "psnr"}
    assert all(averages.keys() == names for averages in summary.averages.values())
    assert summary.averages["validation-valid"]["loss"] < 0.5
    assert all(0 <= averages["precision_micro"] <= 1 for averages in summary.averages.values())

    scalars = read_scalars(run_dir)
    for phase, iterations in (("training", 18), ("validation-train", 18), ("validation-valid-aug", 6)):
        assert [step for step, _ in scalars[f"{phase}/loss/iterations"]] == list(range(1, iterations + 1))
        assert [step for step, _ in scalars[f"{phase}/psnr/epochs"]] == [1, 2, 3]

    saved = json.loads((run_dir / "config.json").read_text())
    assert saved["data"]["image_size"] == [2, 12, 12]

    longer = copy.deepcopy(saved)
    longer["session"]["num_epochs"] = 5
    resumed = start(tmp_path, longer, create_run_dir_afresh=False, source_run_dir_tag=run_dir.name)
    assert resumed.run_dir == session.run_dir
    assert resumed().epochs_done == 5
    steps = [step for step, _ in read_scalars(run_dir)["training/loss/epochs"]]
    assert steps == [1, 2, 3, 4, 5]
    assert sorted(path.name for path in tmp_path.iterdir()) == [run_dir.name]

    second = start(tmp_path, source_run_dir_tag=run_dir.name)
    best = torch.load(run_dir / "network.pth", weights_only=True)
    assert all(torch.equal(value, best[name]) for name, value in second.network.state_dict().items())
    second_summary = second()
    assert second_summary.epochs_done == 3
    assert second_summary.run_dir != str(run_dir)
    assert second_summary.averages["validation-valid"]["loss"] < summary.averages["validation-valid"]["loss"]


def test_a_resumed_run_ends_like_an_uninterrupted_run(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["session"]["seed"] = 11
    first = start(tmp_path, config)
    first()
    config["session"]["num_epochs"] = 6
    resumed = start(tmp_path, config, create_run_dir_afresh=False, source_run_dir_tag=Path(first.run_dir).name)
    uninterrupted = start(tmp_path, config)
    assert resumed().averages == uninterrupted().averages
    for name, value in uninterrupted.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name])
