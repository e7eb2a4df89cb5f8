import os
import sqlite3
import tempfile
import threading
from pathlib import Path

import several
import torch

from torchbase import hookimpl
from torchbase.distributed.board import make_file
from torchbase.testing.hook_frames import HookFrames
from torchbase.testing.written_files import Write, WrittenFiles


class Writes:
    """Writes, moves and removes files in many ways."""

    @hookimpl
    def on_epoch_end(self, run):
        os.chdir(run)
        Path("text").write_text("x")
        with open(b"bytes", "ab"):
            pass
        os.close(os.open("opened", os.O_WRONLY | os.O_CREAT))
        os.replace("opened", "replaced")
        torch.save({}, Path("saved.pt"))
        sqlite3.connect("base.sqlite").close()
        Path("link").symlink_to("text")
        os.truncate("text", 0)
        Path("bytes").unlink()

    @hookimpl
    def on_run_end(self, run):
        with Path(run, "text").open() as file, open(os.devnull, "w") as nothing:
            nothing.write(file.read())
        os.close(os.open(Path(run, "text"), os.O_RDONLY))
        with tempfile.TemporaryFile(dir=run), (Path(run) / "buffer").open("wb") as file:
            torch.save({}, file)
        descriptor, file = make_file(2)  # by which processes communicate, which isn't what a hook writes
        os.close(os.open(file.path, os.O_RDWR))
        os.close(descriptor)


def write(index, folder):
    hook = Writes()
    written = WrittenFiles(HookFrames(hook))
    hook.on_epoch_end(folder)
    first = written.writes
    hook.on_run_end(folder)
    thread = threading.Thread(target=Path(folder, "thread").write_text, args=["x"])
    thread.start()
    thread.join()
    return first, written.writes[len(first) :]


def test_each_way_of_writing_is_noted_with_its_event(tmp_path):
    ((first, rest),) = several.values_of(1, write, str(tmp_path))
    names = ["text", "bytes", "opened", "replaced", "saved.pt", "base.sqlite", "link"]
    assert first == tuple(Write(str(tmp_path / name), "on_epoch_end") for name in names)
    rest = [one for one in rest if not Path(one.path).name.startswith("tmp")]  # on a file system without O_TMPFILE
    assert rest == [Write(str(tmp_path / "buffer"), "on_run_end"), Write(str(tmp_path / "thread"), None)]


def test_this_process_is_unchanged():
    assert torch.save.__module__ == "torch.serialization"
    assert not hasattr(torch.save, "__wrapped__")
