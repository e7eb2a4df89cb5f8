import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CONFIG, StopAt, TinySession, config_with

from torchbase import hookimpl
from torchbase.hooks import JsonLines, TensorBoard


class LogImages:
    """Logs an image in each iteration, with a tag that isn't a file name."""

    @hookimpl
    def on_iteration_end(self, run, phase):
        shade = np.full((1, 2, 3), phase.progress.iterations, np.uint8)
        run.call.log_image(run=run, tag=f"../{phase.name}/ä b", image=shade, step=phase.progress.iterations)


def new_session(tmp_path, *hooks, **arguments):
    session = TinySession(config_with(checkpoint_every_n_iterations=3), tmp_path, **arguments)
    session.unregister("tensorboard")
    for hook in (JsonLines(), LogImages(), *hooks):
        session.register(hook)
    return session


def records_of(session):
    return [json.loads(line) for line in Path(session.run_dir, "log.jsonl").read_text().splitlines()]


def shades(session):
    """The grey value of each image in the log, by its phase and step."""
    found = {}
    for record in records_of(session):
        if record["kind"] == "image":
            with Image.open(Path(session.run_dir, record["file"])) as image:
                assert image.size == (3, 2)
                found[record["tag"], record["step"]] = image.getpixel((0, 0))
    return found


def test_the_first_line_has_the_version_of_the_format():
    # Readers depend on the documented format: changes need another version.
    assert '{"kind": "format", "version": 1}' in JsonLines.__doc__


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_has_the_pixels_that_were_logged(channels, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 5, 7), dtype=np.uint8)

    class Picture:
        @hookimpl
        def on_run_end(self, run):
            run.call.log_image(run=run, tag="pixels", image=pixels, step=1)

    session = new_session(tmp_path, Picture())
    session()
    (record,) = [one for one in records_of(session) if one.get("tag") == "pixels"]
    with Image.open(Path(session.run_dir, record["file"])) as image:
        assert np.array_equal(np.asarray(image).reshape(5, 7, channels), pixels.transpose(1, 2, 0))


def test_each_line_is_an_object_with_the_documented_keys(tmp_path):
    class LogEverything:
        @hookimpl
        def on_run_end(self, run):
            run.call.log_text(run=run, tag="t", text="a\nb", step=1)
            run.call.log_histogram(run=run, tag="h", values=torch.arange(10.0), step=2)
            run.call.log_scalars(run=run, scalars={"s": float("nan")}, step=3)
            run.call.log_layout(run=run, layout={"losses": {"loss": ["training/loss/epochs"]}})
            run.call.log_hparams(run=run, hparams={"a": float("inf"), "b": [float("nan")]}, metrics={"m": 1.0})

    session = new_session(tmp_path, LogEverything())
    session()
    records = records_of(session)
    assert records[0] == {"kind": "format", "version": 1}
    keys = {record["kind"]: set(record) - {"kind", "time"} for record in records}
    assert keys == {
        "format": {"version"},
        "scalar": {"tag", "step", "value"},
        "text": {"tag", "step", "text"},
        "image": {"tag", "step", "file"},
        "histogram": {"tag", "step", "edges", "counts"},
        "hparams": {"hparams", "metrics"},
        "layout": {"layout"},
    }
    (histogram,) = [record for record in records if record["kind"] == "histogram"]
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert sum(histogram["counts"]) == 10
    (odd,) = [record for record in records if record.get("tag") == "s"]
    assert odd["value"] == "NaN"
    hparams = [record["hparams"] for record in records if record["kind"] == "hparams"]
    assert hparams[-1] == {"a": "Infinity", "b": ["NaN"]}


def test_a_resumed_run_has_each_image_once(tmp_path):
    uninterrupted = new_session(tmp_path)
    uninterrupted()
    stopped = new_session(tmp_path, StopAt(3, "validation-valid"))
    stopped()
    resumed = new_session(tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(stopped.run_dir).name)
    resumed()
    assert shades(resumed) == shades(uninterrupted)
    assert {step: shade for (tag, step), shade in shades(resumed).items() if "training" in tag} == {
        step: step for step in range(1, 11)
    }
    logged = {record["file"] for record in records_of(resumed) if record["kind"] == "image"}
    assert logged == {f"log_pictures/{path.name}" for path in Path(resumed.run_dir, "log_pictures").iterdir()}
    assert not list(tmp_path.glob("*.png"))


def test_images_after_the_end_of_the_log_are_removed(tmp_path):
    stopped = new_session(tmp_path, StopAt(4))
    stopped()
    later = Path(stopped.run_dir, "log_pictures", "999999999999_left_1.png")
    users_own = Path(stopped.run_dir, "log_pictures", "mine.png")
    later.touch()
    users_own.touch()
    new_session(tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(stopped.run_dir).name)()
    assert not later.exists()
    assert users_own.exists()


PROGRAM = """
    import sys

    sys.modules["tensorboard"] = None
    from tiny import CONFIG, TinySession

    from torchbase.hooks import JsonLines

    session = TinySession(CONFIG, "runs")
    session.unregister("tensorboard")
    session.register(JsonLines())
    session()
    assert not any(name.startswith("tensorboard.") for name in sys.modules)
"""


def test_it_can_replace_tensorboard_which_need_not_be_installed(tmp_path):
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert (run_dir / "log.jsonl").exists()
    assert not list(run_dir.glob("events*"))


def test_two_backends_can_be_used_together(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.register(JsonLines())
    session()
    assert any(isinstance(hook, TensorBoard) for hook in session.hooks.values())
    assert list(Path(session.run_dir).glob("events*"))
    assert list(Path(session.run_dir).glob("log.jsonl"))
