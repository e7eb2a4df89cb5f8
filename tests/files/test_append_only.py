import logging
import os

import pytest

from torchbase.files.append_only import AppendOnlyFile, file_sizes, truncate_files


def test_a_file_is_created_and_appended_to_when_it_is_opened_again(tmp_path):
    for text in (b"one", b"two"):
        file = AppendOnlyFile(tmp_path / "log")
        assert file.size == (tmp_path / "log").stat().st_size
        file.append(text)
        assert file.size == len(b"one") * (1 if text == b"one" else 2)
        file.close()
    assert (tmp_path / "log").read_bytes() == b"onetwo"


def test_an_abandoned_file_ends_with_the_last_flushed_content(tmp_path):
    (tmp_path / "log").write_bytes(b"before ")
    file = AppendOnlyFile(tmp_path / "log")
    file.append(b"flushed")
    file.flush()
    file.append(b"lost" * 10_000)
    assert (tmp_path / "log").stat().st_size > len(b"before flushed")
    file.abandon()
    assert (tmp_path / "log").read_bytes() == b"before flushed"


def test_a_file_in_a_missing_folder_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError):
        AppendOnlyFile(tmp_path / "gone" / "log")


def test_files_are_truncated_to_their_earlier_sizes_and_later_files_removed(tmp_path, caplog):
    for name, length in (("a.log", 5), ("b.log", 5), ("short.log", 5), ("other.txt", 5)):
        (tmp_path / name).write_bytes(b"x" * length)
    sizes = file_sizes(tmp_path, "*.log")
    assert sizes == {"a.log": 5, "b.log": 5, "short.log": 5}
    (tmp_path / "a.log").write_bytes(b"x" * 9)
    (tmp_path / "later.log").touch()
    (tmp_path / "other.txt").write_bytes(b"y" * 9)
    os.truncate(tmp_path / "short.log", 2)
    with caplog.at_level(logging.WARNING, "torchbase"):
        truncate_files(tmp_path, "*.log", sizes)
    assert file_sizes(tmp_path, "*") == {"a.log": 5, "b.log": 5, "other.txt": 9, "short.log": 2}
    assert caplog.messages == [f"{tmp_path / 'short.log'} lost its last 3 bytes, and with them some values."]
