import pytest

from torchbase.errors import RunDirectoryError
from torchbase.run_directory.parsed_files import read_parsed


def test_a_file_becomes_an_object_and_a_missing_one_none(tmp_path):
    file = tmp_path / "file.json"
    assert read_parsed(file, int) is None
    file.write_text("3")
    assert read_parsed(file, int) == 3


@pytest.mark.parametrize("parse", [lambda value: value["name"], lambda value: value[3], lambda value: value.name, int])
def test_a_file_with_another_content_is_named(tmp_path, parse):
    file = tmp_path / "file.json"
    file.write_text('{"other": 1}')
    with pytest.raises(RunDirectoryError, match=r"file\.json isn't what torchbase writes there: .* To fix, restore it"):
        read_parsed(file, parse)


def test_a_file_that_is_no_json_is_damaged(tmp_path):
    file = tmp_path / "file.json"
    file.write_text("{")
    with pytest.raises(RunDirectoryError, match=r"file\.json is damaged, it isn't JSON"):
        read_parsed(file, int)
