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


class Pictures:
    """Logs a picture in each iteration, under a tag that no file could have."""

    @hookimpl
    def on_iteration_end(self, run, phase):
        shade = np.full((1, 2, 3), phase.progress.iterations, np.uint8)
        run.call.log_image(run=run, tag=f"../{phase.name}/ä b", image=shade, step=phase.progress.iterations)


def new_session(tmp_path, *hooks, **arguments):
    session = TinySession(config_with(checkpoint_every_n_iterations=3), tmp_path, **arguments)
    session.unregister("tensorboard")
    for hook in (JsonLines(), Pictures(), *hooks):
        session.register(hook)
    return session


def records_of(session):
    return [json.loads(line) for line in Path(session.run_dir, "log.jsonl").read_text().splitlines()]


def shades(session):
    """The grey of each picture that the log names, by its phase and step."""
    found = {}
    for one in records_of(session):
        if one["kind"] == "image":
            with Image.open(Path(session.run_dir, one["file"])) as image:
                assert image.size == (3, 2)
                found[one["tag"], one["step"]] = image.getpixel((0, 0))
    return found


def test_the_first_line_tells_the_format():
    # What people read by: it has to stay, or get another version.
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
    class Records:
        @hookimpl
        def on_run_end(self, run):
            run.call.log_text(run=run, tag="t", text="a\nb", step=1)
            run.call.log_histogram(run=run, tag="h", values=torch.arange(10.0), step=2)
            run.call.log_scalars(run=run, scalars={"s": float("nan")}, step=3)
            run.call.log_layout(run=run, layout={"losses": {"loss": ["training/loss/epochs"]}})
            run.call.log_hparams(run=run, hparams={"a": float("inf"), "b": [float("nan")]}, metrics={"m": 1.0})

    session = new_session(tmp_path, Records())
    session()
    records = records_of(session)
    assert records[0] == {"kind": "format", "version": 1}
    keys = {one["kind"]: set(one) - {"kind", "time"} for one in records}
    assert keys == {
        "format": {"version"},
        "scalar": {"tag", "step", "value"},
        "text": {"tag", "step", "text"},
        "image": {"tag", "step", "file"},
        "histogram": {"tag", "step", "edges", "counts"},
        "hparams": {"hparams", "metrics"},
        "layout": {"layout"},
    }
    (histogram,) = [one for one in records if one["kind"] == "histogram"]
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert sum(histogram["counts"]) == 10
    (odd,) = [one for one in records if one.get("tag") == "s"]
    assert odd["value"] == "NaN"
    assert [one["hparams"] for one in records if one["kind"] == "hparams"][-1] == {"a": "Infinity", "b": ["NaN"]}


def test_pictures_of_a_run_that_goes_on_are_there_once_and_no_other(tmp_path):
    whole = new_session(tmp_path)
    whole()
    begun = new_session(tmp_path, StopAt(3, "validation-valid"))
    begun()
    again = new_session(tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(begun.run_dir).name)
    again()
    assert shades(again) == shades(whole)
    assert {step: shade for (tag, step), shade in shades(again).items() if "training" in tag} == {
        step: step for step in range(1, 11)
    }
    named = {one["file"] for one in records_of(again) if one["kind"] == "image"}
    assert named == {f"log_pictures/{path.name}" for path in Path(again.run_dir, "log_pictures").iterdir()}
    assert not list(tmp_path.glob("*.png"))


def test_pictures_behind_the_end_of_the_log_are_removed(tmp_path):
    begun = new_session(tmp_path, StopAt(4))
    begun()
    left_behind = Path(begun.run_dir, "log_pictures", "999999999999_left_1.png")
    users_own = Path(begun.run_dir, "log_pictures", "mine.png")
    left_behind.touch()
    users_own.touch()
    new_session(tmp_path, create_run_dir_afresh=False, source_run_dir_tag=Path(begun.run_dir).name)()
    assert not left_behind.exists()
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


def test_in_its_place_tensorboard_need_not_be_installed_and_leaves_no_file(tmp_path):
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


def test_two_backends_may_stand_side_by_side(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    session.register(JsonLines())
    session()
    assert any(isinstance(hook, TensorBoard) for hook in session.hooks.values())
    assert list(Path(session.run_dir).glob("events*"))
    assert list(Path(session.run_dir).glob("log.jsonl"))
