import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import several

from torchbase.checkpoints.storage import newest_whole_checkpoint
from torchbase.files.bitwise import different_values

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass
class Finished:
    printed: str
    folder: Path

    def number_after(self, text: str) -> float:
        found = re.search(re.escape(text) + r"\s*(-?\d+(?:\.\d+)?)", self.printed)
        assert found is not None, f"{text!r} was not printed, but:\n{self.printed}"
        return float(found.group(1))

    @property
    def run_directory(self) -> Path:
        (path,) = (self.folder / "runs").iterdir()
        assert f"the run is in {path}" in self.printed
        return path


@pytest.fixture
def run_example(programs, tmp_path):
    """Runs an example in an empty folder."""

    def run(name: str, *arguments: str) -> Finished:
        done = programs.run(EXAMPLES / name, *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        # What other packages say of themselves depends on their version, and on Python's.
        assert not re.search(r"(torchbase|examples)\S*\.py:\d+: \w*Warning", done.stderr), done.stderr
        return Finished(done.stdout, tmp_path)

    return run


def test_digits_reaches_an_accuracy_of_97_percent(run_example):
    finished = run_example("digits.py")
    assert finished.number_after("validation-valid:") >= 97.0
    assert list(finished.run_directory.glob("events.out.tfevents.*"))
    assert (finished.run_directory / "network.pth").exists()


def test_breast_cancer_reaches_its_scores(run_example):
    finished = run_example("breast_cancer.py")
    assert 0.97 <= finished.number_after("ROC AUC on the validation set:") <= 1.0
    assert 0.90 <= finished.number_after("F1 score on the validation set:") <= 1.0
    assert (finished.run_directory / "network.pth").exists()


def test_denoising_gains_more_than_3_decibels_on_each_set(run_example):
    finished = run_example("denoising.py")
    line = re.compile(r"^validation-(\S+): (\S+) dB noisy, (\S+) dB denoised$", re.MULTILINE)
    noisy, denoised = {}, {}
    for name, before, after in line.findall(finished.printed):
        noisy[name], denoised[name] = float(before), float(after)
    assert list(noisy) == ["train", "valid", "valid-strong"]
    # The standard deviations of the noise, 0.1 and 0.2, in decibels.
    assert noisy["valid"] == pytest.approx(20.0, abs=0.2)
    assert noisy["valid-strong"] == pytest.approx(14.0, abs=0.2)
    assert all(denoised[name] > noisy[name] + 3 for name in noisy), finished.printed


def test_custom_hook_ends_the_run_early_and_is_saved_in_the_checkpoint(run_example):
    finished = run_example("custom_hook.py")
    assert 4 <= finished.number_after("stopped after") < 100
    assert "the accuracy on validation-valid has not improved for 3 epochs" in finished.printed
    checkpoint = newest_whole_checkpoint(finished.run_directory / "states")
    assert checkpoint is not None
    assert checkpoint.parts["training"]["hooks"]["early_stopping"]["epochs_waited"] == 3


def test_swap_logger_records_each_value_without_an_event_file(run_example):
    finished = run_example("swap_logger.py")
    text = (finished.run_directory / "log.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    values = [record for record in records if record["kind"] == "scalar"]
    assert f"{len(values)} values were recorded" in finished.printed
    # 1,258 training images in mini-batches of 32 are 40 iterations per epoch, for 3 epochs.
    steps = [record["step"] for record in values if record["tag"] == "training/loss/iterations"]
    assert steps == list(range(1, 121))
    tags = {record["tag"] for record in values}
    assert {"validation-valid/accuracy/epochs", "validation-noisy/loss/iterations"} < tags
    (hparams,) = [record for record in records if record["kind"] == "hparams"]
    assert hparams["hparams"]["session.num_epochs"] == 3
    assert hparams["metrics"].keys() == {f"validation-{name}/best_loss/epochs" for name in ("valid", "noisy", "test")}
    table = (finished.run_directory / "epochs.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in table if line.endswith(" training/loss/epochs")] == ["1", "2", "3"]
    assert "session.num_epochs = 3" in table
    assert not list(finished.run_directory.rglob("events.out.tfevents.*"))


def test_all_techniques_reaches_an_accuracy_of_97_percent(run_example):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    finished = run_example("all_techniques.py")
    assert finished.number_after("validation-valid:") >= 97.0
    run_directory = finished.run_directory
    assert [path.name for path in sorted((run_directory / "profile").iterdir())] == [
        "iterations-0000000041-to-0000000043.json",
        "iterations-0000000041-to-0000000043.txt",
    ]
    assert "exponential_moving_average" in (run_directory / "hook_times.txt").read_text(encoding="utf-8")
    tags = EventAccumulator(str(run_directory)).Reload().Tags()
    assert "validation-noisy/image/iterations" in tags["images"]
    assert {"training/gradients/1.weight/iterations", "training/weights/1.weight/epochs"} < set(tags["histograms"])
    assert {"training/learning_rate/iterations", "training/gradient_norm/iterations"} < set(tags["scalars"])
    checkpoint = newest_whole_checkpoint(run_directory / "states")
    assert checkpoint is not None
    assert checkpoint.parts["training"]["hooks"]["exponential_moving_average"]["n_averaged"] == 8 * 20


def test_engine_only_trains_and_writes_no_file(run_example, tmp_path):
    finished = run_example("engine_only.py")
    assert finished.number_after("after:") < 0.5 * finished.number_after("before:")
    assert len(re.findall(r"^epoch \d+: ", finished.printed, re.MULTILINE)) == 30
    assert not list(tmp_path.iterdir())


def test_engine_only_is_shorter_than_60_lines():
    assert len((EXAMPLES / "engine_only.py").read_text(encoding="utf-8").splitlines()) < 60


def test_gan_draws_digits_with_clipping_averages_and_schedules(run_example):
    finished = run_example("gan.py")
    assert finished.number_after("digits after:") < 0.5 * finished.number_after("digits before:")
    for name in ("gradient_norm_discriminator", "gradient_norm_generator", "learning_rate_generator"):
        assert finished.number_after(f"'{name}':") > 0
    checkpoint = newest_whole_checkpoint(finished.run_directory / "states")
    assert checkpoint is not None
    hooks = checkpoint.parts["training"]["hooks"]
    assert hooks["exponential_moving_average"]["n_averaged"] == 10 * 23
    assert hooks["learning_rate_schedule discriminator"]["scheduler"]["last_epoch"] == 10


@pytest.mark.thorough  # tests/kill kills runs of several optimizers
def test_gan_that_is_killed_and_resumed_ends_with_the_same_bits(run_example, tmp_path):
    def kill_after_a_checkpoint(*arguments):
        command = [sys.executable, str(EXAMPLES / "gan.py"), *arguments]
        manifests = "*/states/checkpoint-*/manifest.json"
        seen = set((tmp_path / "runs").glob(manifests))
        environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                if set((tmp_path / "runs").glob(manifests)) - seen:
                    process.kill()
        assert process.returncode == -signal.SIGKILL

    alone = run_example("gan.py").run_directory.rename(tmp_path / "alone")
    kill_after_a_checkpoint()
    for _ in range(3):
        kill_after_a_checkpoint("resume")
    resumed = run_example("gan.py", "resume").run_directory
    states = [newest_whole_checkpoint(folder / "states").parts for folder in (alone, resumed)]
    assert different_values(*[(parts["network"], parts["training"]["optimizer"]) for parts in states]) == []


def test_gan_is_shorter_than_100_lines():
    assert len((EXAMPLES / "gan.py").read_text(encoding="utf-8").splitlines()) < 100


def train_several_processes(index, folder):
    os.chdir(folder)
    with redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(EXAMPLES / "several_processes.py"), run_name="__main__")
    return printed.getvalue()


@pytest.mark.thorough  # tests/whole_runs/test_several_processes.py compares small networks
def test_several_processes_print_the_checksum_of_one(run_example, tmp_path):
    alone = run_example("several_processes.py")
    checksum = re.search(r"SHA-256 of the network: \w{64}", alone.printed)[0]
    main, *others = several.values_of(2, train_several_processes, tmp_path)
    assert "processes: 2\n" in main
    assert checksum in main
    assert alone.number_after("accuracy:") == Finished(main, tmp_path).number_after("accuracy:")
    assert not any(others)
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_several_processes_reaches_an_accuracy_of_90_percent(tmp_path):
    main, other = several.values_of(2, train_several_processes, tmp_path)
    assert "processes: 2\n" in main
    assert Finished(main, tmp_path).number_after("accuracy:") > 0.9
    assert re.search(r"SHA-256 of the network: \w{64}", main)
    assert other == ""
    assert len(list((tmp_path / "runs").iterdir())) == 1
