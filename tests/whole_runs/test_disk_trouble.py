"""Runs whose disk becomes full or whose directory becomes read-only."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, TinySession, config_with

from torchbase import hookimpl
from torchbase.errors import RunDirectoryError
from torchbase.hooks import JsonLines


class FillTheDisk:
    """Fills the disk after an epoch."""

    def __init__(self, disk, epoch):
        self.file, self.epoch = disk / "filler", epoch

    @hookimpl
    def on_epoch_start(self, run):
        if run.epochs_done == self.epoch and not self.file.exists():
            run.run_directory.writes.wait()
            with self.file.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a megabyte, in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") is not None and (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode == 0
    )
    if not mounted:
        pytest.skip("only root can mount a small disk; the same errors are injected in the tests below")
    yield disk
    subprocess.run(["umount", disk], check=True)


def weights_after(tmp_path, **session):
    whole = TinySession(config_with(**session), tmp_path)
    whole()
    return whole.network.state_dict()


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def resumed_weights(run_dir, **session):
    resumed = TinySession(
        config_with(**session), run_dir.parent, create_run_dir_afresh=False, source_run_dir_tag=run_dir.name
    )
    resumed()
    return resumed.network.state_dict()


def test_a_full_disk_ends_the_run_and_it_resumes_from_the_checkpoint_before(small_disk, tmp_path):
    session = TinySession(config_with(num_epochs=4), small_disk)
    filling = FillTheDisk(small_disk, epoch=2)
    session.register(filling)
    with pytest.raises(RunDirectoryError, match=r"(?s)can't write .*No space left on device. To fix, free some space"):
        session()
    found = session.verify()
    assert found.is_good
    assert found.findings[0].name.endswith("checkpoint-epoch-000002-iteration-0000000010")
    filling.file.unlink()
    run_dir = Path(session.run_dir)
    assert are_equal(resumed_weights(run_dir, num_epochs=4), weights_after(tmp_path / "whole", num_epochs=4))


def test_a_full_disk_is_logged_as_a_warning_and_training_continues_if_configured(small_disk, tmp_path, caplog):
    session = TinySession(config_with(num_epochs=4, on_checkpoint_error="warn"), small_disk)
    session.register(JsonLines())
    session.register(FillTheDisk(small_disk, epoch=2))
    with caplog.at_level(logging.WARNING, "torchbase"):
        assert session().epochs_done == 4
    assert "The training continues, and earlier files stay: can't write" in caplog.text
    for message in ("tensorboard can't write its event file", "json_lines can't write log.jsonl"):
        assert caplog.text.count(message) == 1
    lines = [json.loads(line) for line in Path(session.run_dir, "log.jsonl").read_text().splitlines()]
    steps = [one["step"] for one in lines if one.get("tag") == "training/loss/epochs"]
    assert steps in ([1, 2], [1, 2, 3])  # an allocated page may still hold some lines
    assert session.verify().is_good
    assert session.verify().findings[0].name.endswith("checkpoint-epoch-000002-iteration-0000000010")
    assert are_equal(session.network.state_dict(), weights_after(tmp_path / "whole", num_epochs=4))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("policy", ["raise", "warn"])
def test_a_disk_error_in_a_checkpoint_follows_the_config(tmp_path, monkeypatch, caplog, policy, number):
    fsync, broken = os.fsync, []

    def fail(descriptor):
        if broken and "checkpoint-" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    class Break:
        @hookimpl
        def on_epoch_start(self, run):
            if run.epoch in (2, 3):
                run.run_directory.writes.wait()
                broken[:] = [True] * (run.epoch == 2)

    monkeypatch.setattr(os, "fsync", fail)
    session = TinySession(config_with(num_epochs=3, on_checkpoint_error=policy), tmp_path)
    session.register(Break())
    if policy == "raise":
        with pytest.raises(RunDirectoryError, match=os.strerror(number)) as caught:
            session()
        assert caught.value.errno == number
    else:
        assert session().epochs_done == 3
        assert caplog.text.count("The training continues") == 1
    broken.clear()
    found = session.verify()
    assert found.is_good
    epochs = [one.name.split("-")[2] for one in found.findings[:-1]]
    assert epochs == {"raise": ["000001"], "warn": ["000003", "000002"]}[policy]
    assert are_equal(
        resumed_weights(Path(session.run_dir), num_epochs=3, on_checkpoint_error=policy),
        weights_after(tmp_path / "whole", num_epochs=3),
    )


# Root may write without permission, unless it drops that capability.
PROGRAM = """
    import ctypes
    import os
    import sys
    from pathlib import Path

    sys.path.insert(0, {tests!r})
    from tiny import CONFIG, TinySession

    from torchbase import hookimpl


    class Forbid:
        @hookimpl
        def on_epoch_start(self, run):
            if run.epoch == 2:
                run.run_directory.writes.wait()
                for folder in (run.run_directory.states, run.run_directory.path):
                    folder.chmod(0o555)


    if os.geteuid() == 0:  # without the capabilities 1 and 2, permissions hold for root, too
        libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        libc.capget(header, sets)
        sets[0] &= ~0b110
        assert libc.capset(header, sets) == 0

    if sys.argv[1] == "start":
        session = TinySession(CONFIG, "runs")
        session.register(Forbid())
    else:
        session = TinySession.resume("runs")
    session()
"""


@pytest.mark.skipif(os.geteuid() == 0 and sys.platform != "linux", reason="root ignores permissions")
def test_a_run_directory_that_becomes_read_only_is_a_clear_error_and_can_be_resumed_later(programs, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM.format(tests=str(Path(__file__).parents[1]))))

    def run(word):
        return programs.run(program, word, cwd=tmp_path)

    first = run("start")
    (run_dir,) = (tmp_path / "runs").iterdir()
    last_line = first.stderr.strip().splitlines()[-1]
    assert "RunDirectoryError: can't write" in first.stderr, first.stderr
    assert "Permission denied. To fix, choose a folder that you may read and write." in first.stderr, last_line
    assert first.returncode == 1
    refused = run("resume")
    assert refused.returncode == 1
    assert "RunDirectoryError: can't" in refused.stderr
    assert "Permission denied" in refused.stderr
    for folder in (run_dir, run_dir / "states"):
        folder.chmod(0o755)
    assert [path.name for path in (run_dir / "states").iterdir() if path.is_dir()] == [
        "checkpoint-epoch-000001-iteration-0000000005"
    ]
    resumed = run("resume")
    assert resumed.returncode == 0, resumed.stderr
    best = torch.load(run_dir / "network.pth", weights_only=True)
    whole = TinySession(CONFIG, tmp_path / "whole")
    whole()
    assert are_equal(best, torch.load(Path(whole.run_dir, "network.pth"), weights_only=True))
