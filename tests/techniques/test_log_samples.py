from pathlib import Path

import pytest
import torch
from datasets import Dataset
from every_technique import Recorder, check_resumes_exactly, session_with
from tiny import StopAt

from torchbase import TrainingBaseSession, ValidationDatasetsDict
from torchbase.errors import HookError, IntervalError
from torchbase.files.bitwise import different_values
from torchbase.hooks import LogSamples


class Blur(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(1, 1, 3, padding=1)


class ImageSession(TrainingBaseSession):
    architecture = "Blur"

    def init_datasets(self):
        images = torch.rand(12, 4, 5, generator=torch.Generator().manual_seed(1))
        dataset = Dataset.from_dict({"image": images.tolist(), "name": [str(number) for number in range(12)]})
        return dataset, ValidationDatasetsDict(
            datasets=(dataset.select(range(7)), dataset.select(range(3))), only_for_demo=(False, True), names=("a", "b")
        )

    def init_network(self):
        return Blur()

    def forward_pass(self, mini_batch):
        images = mini_batch["image"][:, None]
        output = self.network(images)
        return {
            "output": output,
            "target": images,
            "bytes": (images * 255).to(torch.uint8),
            "classes": (images * 4).long(),
            "colours": images.expand(-1, 3, -1, -1),
            "vectors": images.flatten(1),
        }

    def loss_function(self, *, output, target):
        return (output - target).square().mean()

    def init_metrics(self):
        return None


def logged_images(tmp_path, *arguments, **session):
    trained = session_with(tmp_path, LogSamples(*arguments), recorder := Recorder(), kind=ImageSession, **session)
    trained()
    return trained, recorder.images


def test_the_first_samples_of_the_voting_set_and_their_outputs_are_logged(tmp_path):
    session, images = logged_images(tmp_path, 3, ["image", "output"], None, "2ep")
    # The first of the two mini-batches of the second epoch.
    assert set(images) == {("validation-a/image/iterations", 3), ("validation-a/output/iterations", 3)}
    rows = torch.tensor(session.datasets_valid_dict["a"][:3]["image"])
    assert torch.equal(images["validation-a/image/iterations", 3], torch.cat(list(rows[:, None]), dim=2))
    with torch.no_grad():
        output = session.network.eval()(rows[:, None]).clamp(0, 1)
    torch.testing.assert_close(images["validation-a/output/iterations", 3], torch.cat(list(output), dim=2))


def test_bytes_classes_and_colours_are_shown(tmp_path):
    _, images = logged_images(tmp_path, 2, ["bytes", "classes", "colours"], "training", num_epochs=1)
    by_name = {tag.split("/")[1]: image for (tag, _), image in images.items()}
    assert {name: (tuple(image.shape), image.dtype) for name, image in by_name.items()} == {
        "bytes": ((1, 4, 10), torch.uint8),
        "classes": ((1, 4, 10), torch.float32),
        "colours": ((3, 4, 10), torch.float32),
    }
    assert by_name["classes"].max() == 1.0


def test_a_mini_batch_may_hold_fewer_samples(tmp_path):
    _, images = logged_images(tmp_path, 9, ["image"], "validation-b")
    assert {image.shape for image in images.values()} == {(1, 4, 15)}
    assert [step for _, step in images] == [1, 2]


def test_event_files_hold_the_images_once_and_a_resumed_run_continues_exactly(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def hooks():
        return [LogSamples(2, ["image", "output"])]

    whole = check_resumes_exactly(tmp_path, hooks, kind=ImageSession, stops=(2, 5))
    stopped = session_with(tmp_path / "validation", *hooks(), StopAt(1, "validation-a"), kind=ImageSession, dropout=0.3)
    stopped()
    again = ImageSession.resume(tmp_path / "validation")
    again.register(*hooks())
    again()
    for run_dir in (whole.run_dir, next((tmp_path / "stopped").iterdir()), again.run_dir):
        images = (
            EventAccumulator(str(run_dir), size_guidance={"images": 0})
            .Reload()
            .Images("validation-a/output/iterations")
        )
        assert [(image.step, image.width, image.height) for image in images] == [(1, 10, 4), (3, 10, 4)]
    assert different_values(whole.network.state_dict(), again.network.state_dict()) == []
    assert Path(whole.run_dir) != Path(again.run_dir)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("outptu", r"found nothing named 'outptu' .* Did you mean 'output'\? Available: image, name, output"),
        ("vectors", r"'vectors' is a tensor of shape \(4, 20\)\. To fix, reshape it"),
        ("name", "'name' is list"),
    ],
)
def test_the_error_names_a_value_that_is_not_an_image(tmp_path, name, message):
    with pytest.raises(HookError, match=message):
        logged_images(tmp_path, 2, [name])


def test_invalid_arguments_raise():
    for samples, names in ((0, ["image"]), (1, []), (1, "image")):
        with pytest.raises(HookError, match="at least 1 sample and a list of names"):
            LogSamples(samples, names)
    with pytest.raises(IntervalError, match="isn't possible here"):
        LogSamples(1, ["image"], every="10it")
