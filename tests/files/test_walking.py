import os
import shutil
import sys

import pytest

from torchbase.files.walking import files_in


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_all_files_are_listed(tmp_path):
    names = ["a", ".hidden", "b/c", "b/d/e", ".f/g"]
    make(tmp_path, *names)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert sorted(files_in(tmp_path)) == sorted(tmp_path / name for name in names)


@pytest.mark.parametrize("change", [shutil.rmtree, lambda folder: folder.rename(folder.with_name("new"))])
def test_a_folder_that_disappears_meanwhile_is_skipped(tmp_path, change):
    make(tmp_path, "first", "old/second", "old/deep/third", "other/fourth")
    walk = files_in(tmp_path)
    assert next(walk) == tmp_path / "first"  # the folders beside it have been listed, and not been opened
    change(tmp_path / "old")
    assert list(walk) == [tmp_path / "other" / "fourth"]


def test_a_folder_that_is_not_there_has_no_files(tmp_path):
    assert list(files_in(tmp_path / "missing")) == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs permissions, and root has all")
def test_a_folder_that_can_not_be_read_is_an_error(tmp_path):
    make(tmp_path, "closed/file")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(PermissionError):
        list(files_in(tmp_path))
    (tmp_path / "closed").chmod(0o700)


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path):
    make(tmp_path, "file")
    with pytest.raises(NotADirectoryError):
        list(files_in(tmp_path / "file"))
