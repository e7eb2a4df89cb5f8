import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.errors import RunDirectoryError
from torchbase.files.json_lines import append_line, read_lines, truncate_lines


def test_lines_are_read_back_and_truncated(tmp_path):
    file = tmp_path / "lines.jsonl"
    assert read_lines(file) == ([], 0)
    truncate_lines(file, 0)
    assert not file.exists()
    for number in range(4):
        append_line(file, {"number": number, "text": "a\nb\r\u2028"})
    assert [line["number"] for line in read_lines(file)[0]] == [0, 1, 2, 3]
    inode = file.stat().st_ino
    truncate_lines(file, 4)
    assert file.stat().st_ino == inode  # nothing to truncate, nothing written
    truncate_lines(file, 2)
    assert [line["number"] for line in read_lines(file)[0]] == [0, 1]


@settings(max_examples=30)
@given(st.binary(max_size=12))
def test_any_content_after_the_lines_is_truncated_and_the_lines_are_read(tmp_path_factory, after):
    file = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    append_line(file, {"number": 1})
    with file.open("ab") as opened:
        opened.write(after)
    assert {"number": 1} in read_lines(file)[0]
    truncate_lines(file, 1)
    assert file.read_bytes() == b'{"number": 1}\n'


def test_an_incomplete_line_is_removed_even_within_the_count_to_keep(tmp_path):
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b'{"number": 1}\n{"num')
    truncate_lines(file, 5)
    assert file.read_bytes() == b'{"number": 1}\n'


@pytest.mark.parametrize(
    "content", [b'{"a": 1}\n{"a": ', b'{"a": 1}\n[1]\n{"a"\n', b'{"a": 1}\n\xff\n' + b"[" * 100_000 + b"\n"]
)
def test_invalid_lines_are_counted_but_not_an_incomplete_last_line(tmp_path, content):
    file = tmp_path / "lines.jsonl"
    file.write_bytes(content)
    assert read_lines(file) == ([{"a": 1}], content.count(b"\n") - 1)


def test_a_value_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        append_line(tmp_path / "lines.jsonl", {"number": float("nan")})
    assert not (tmp_path / "lines.jsonl").exists()


def test_a_line_that_fits_the_disk_only_in_part_is_removed(tmp_path, monkeypatch):
    file = tmp_path / "lines.jsonl"
    append_line(file, {"number": 1})
    real_open = type(file).open

    def open_on_a_nearly_full_disk(path, *arguments, **named):
        opened = real_open(path, *arguments, **named)

        class NearlyFull:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                opened.close()

            def seek(self, *where):
                return opened.seek(*where)

            def write(self, line):
                return opened.write(line[:5])

        return NearlyFull()

    monkeypatch.setattr(type(file), "open", open_on_a_nearly_full_disk)
    with pytest.raises(RunDirectoryError, match="free some space") as caught:
        append_line(file, {"number": 2})
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    append_line(file, {"number": 3})
    assert read_lines(file) == ([{"number": 1}, {"number": 3}], 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "lines.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunDirectoryError, match=r"can't write .*lines\.jsonl: No space left on device"):
        append_line(tmp_path / "lines.jsonl", {"number": 1})
