import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import (
    NewFile,
    checksum,
    make_folder,
    read_json,
    remove_durably,
    remove_leftovers,
    replace_file,
    sync_folder,
    write_durably,
    write_folder_durably,
    write_json,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "file"
    write_durably(path, lambda file: file.write(b"old"))
    write_durably(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["file"]


def test_a_reader_sees_the_old_content_until_the_new_content_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"half of the new")
        file.flush()
        assert path.read_bytes() == b"old"

    write_durably(path, write)
    assert path.read_bytes() == b"half of the new"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_durably(path, write)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_the_content_reaches_the_disk_before_the_rename_and_the_rename_after_it(tmp_path, monkeypatch):
    steps = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        steps.append(("fsync", os.fstat(descriptor).st_ino))
        real_fsync(descriptor)

    def replace(source: Path, target: Path) -> None:
        steps.append(("replace", target.name))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_durably(tmp_path / "file", lambda file: file.write(b"content"))
    file, folder = (tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino
    assert steps == [("fsync", file), ("replace", "file"), ("fsync", folder)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_error_names_the_file_and_has_the_same_errno(tmp_path, monkeypatch, number):
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunDirectoryError, match="file") as caught:
        write_durably(tmp_path / "file", lambda file: file.write(b"content"))
    assert caught.value.errno == number
    assert os.strerror(number) in str(caught.value)
    assert names_in(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_the_named_reason(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="in its place") as caught:
        write_durably(tmp_path / "file" / "inner", lambda file: file.write(b"content"))
    assert caught.value.errno == errno.ENOTDIR
    with pytest.raises(RunDirectoryError, match="in its place"):
        make_folder(tmp_path / "file")
    with pytest.raises(RunDirectoryError, match="is missing"):
        write_durably(tmp_path / "missing" / "inner", lambda file: file.write(b"content"))


def test_a_file_is_replaced_in_one_step_without_waiting_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("it waited for the disk"))
    path = tmp_path / "file"
    replace_file(path, b"old")
    with path.open("rb") as reader:
        replace_file(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["file"]
    with pytest.raises(RunDirectoryError, match="is missing"):
        replace_file(tmp_path / "missing" / "file", b"new")


def test_missing_folders_are_made_and_existing_folders_stay(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    (tmp_path / "a" / "b" / "file").touch()
    make_folder(tmp_path / "a" / "b")
    assert names_in(tmp_path / "a" / "b") == ["file"]


def test_a_missing_folder_cannot_be_synced(tmp_path):
    with pytest.raises(RunDirectoryError, match="missing"):
        sync_folder(tmp_path / "missing")


def one_file(new_file: NewFile) -> None:
    with new_file("a") as file:
        file.write(b"1")


def test_a_folder_appears_with_all_its_files(tmp_path):
    def fill(new_file: NewFile) -> None:
        with new_file("a") as file:
            file.write(b"1")
        with new_file("b") as file:
            file.write(b"2")
            file.seek(0)
            assert file.read() == b"2"
        assert not (tmp_path / "folder").exists()

    write_folder_durably(tmp_path / "folder", fill)
    assert (tmp_path / "folder" / "a").read_text() == "1"
    assert (tmp_path / "folder" / "b").read_text() == "2"
    assert names_in(tmp_path) == ["folder"]


def test_every_file_and_folder_reaches_the_disk_before_the_rename(tmp_path, monkeypatch):
    synced = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        state = os.fstat(descriptor)
        synced.append((state.st_ino, state.st_size if stat.S_ISREG(state.st_mode) else None, is_renamed()))
        real_fsync(descriptor)

    def is_renamed() -> bool:
        return (tmp_path / "folder").exists()

    def fill(new_file: NewFile) -> None:
        for name in ("a", "b"):
            with new_file(name) as file:
                file.write(b"content")

    monkeypatch.setattr(os, "fsync", fsync)
    write_folder_durably(tmp_path / "folder", fill)
    files = [(tmp_path / "folder" / name).stat().st_ino for name in ("a", "b")]
    assert synced == [
        (files[0], 7, False),
        (files[1], 7, False),
        ((tmp_path / "folder").stat().st_ino, None, False),
        (tmp_path.stat().st_ino, None, True),
    ]


def test_a_folder_that_cannot_be_filled_leaves_nothing(tmp_path):
    def fill(new_file: NewFile) -> None:
        with new_file("a") as file:
            file.write(b"1")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_folder_durably(tmp_path / "folder", fill)
    assert names_in(tmp_path) == []


def test_an_existing_folder_is_not_replaced_even_if_it_is_empty(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunDirectoryError, match="folder") as caught:
        write_folder_durably(tmp_path / "folder", one_file)
    assert caught.value.errno == errno.EEXIST
    assert names_in(tmp_path) == ["folder"]
    assert names_in(tmp_path / "folder") == []


def test_a_folder_is_removed_and_a_missing_one_is_an_error(tmp_path):
    write_folder_durably(tmp_path / "folder", one_file)
    remove_durably(tmp_path / "folder")
    assert names_in(tmp_path) == []
    with pytest.raises(RunDirectoryError, match="folder"):
        remove_durably(tmp_path / "folder")


def test_only_leftovers_of_killed_processes_are_removed(tmp_path):
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from torchbase.files.durable import write_durably, write_folder_durably
        kill = lambda target: os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[1] == "file":
            write_durably(Path("file"), kill)
        write_folder_durably(Path("folder"), lambda new_file: kill(new_file("a").__enter__()))
    """
    for kind in ("file", "folder"):
        subprocess.run([sys.executable, "-c", script, kind], cwd=tmp_path, check=False)
    assert len(names_in(tmp_path)) == 2
    others = [".file.tmp", ".hidden", "file.0123456789abcdef.tmp", "plain.tmp"]
    for name in others:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == others


def test_a_link_with_the_name_of_a_leftover_is_removed_and_its_target_stays(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / ".link.0123456789abcdef.tmp").symlink_to(tmp_path / "precious")
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == ["precious"]


def test_the_checksum_is_the_sha256_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with open(tmp_path / "file", "rb") as file:
        file.read(3)
        assert checksum(file) == hashlib.sha256(b"content").hexdigest()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30)
@given(value=json_values)
def test_json_is_read_back_as_it_was_written(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": {1}}, {(1, 2): 3}, torch.ones(1)])
def test_a_value_that_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path, value):
    write_json(tmp_path / "value.json", 1)
    with pytest.raises(RunDirectoryError, match=r"value\.json.*finite"):
        write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == 1


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe\x00", b"[" * 100_000])
def test_damaged_json_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "value.json").write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"value\.json is damaged"):
        read_json(tmp_path / "value.json")


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(RunDirectoryError, match="missing") as caught:
        read_json(tmp_path / "missing")
    assert caught.value.errno == errno.ENOENT


def test_json_is_indented_for_people(tmp_path):
    write_json(tmp_path / "value.json", {"a": 1})
    assert (tmp_path / "value.json").read_text() == '{\n  "a": 1\n}\n'
    assert json.loads((tmp_path / "value.json").read_text()) == {"a": 1}
