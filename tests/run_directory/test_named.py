from concurrent.futures import ThreadPoolExecutor

import pytest

from torchbase.errors import RunDirectoryError
from torchbase.run_directory.named import checked_path, open_or_make


def test_a_directory_is_made_under_its_name_and_found_again(tmp_path):
    made = open_or_make(tmp_path / "runs", "my-run_2.b")
    assert made.path == tmp_path / "runs" / "my-run_2.b"
    assert (made.path.is_dir(), made.tag, made.is_new) == (True, "my-run_2.b", False)
    assert open_or_make(tmp_path / "runs", "my-run_2.b").path == made.path


def test_a_directory_that_another_process_may_have_opened_is_not_removed(tmp_path):
    made = open_or_make(tmp_path, "my-run")
    made.lock()
    made.end_setup()
    assert not made.remove_if_unused()
    assert not made.remove_unless(lambda path: False)
    assert made.path.is_dir()


def test_several_that_make_a_directory_at_once_get_the_same(tmp_path):
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: open_or_make(tmp_path / "new" / "runs", "my-run").path, range(32)))
    assert {*made} == {tmp_path / "new" / "runs" / "my-run"}


@pytest.mark.parametrize("tag", ["a/b", "../runs", "", ".", "..", ".hidden", "my run", "läuft", "a\0", "a\n", 7, None])
def test_what_cannot_name_a_directory_is_refused(tmp_path, tag):
    for function in (checked_path, open_or_make):
        with pytest.raises(RunDirectoryError, match=r"can't be the name of a run directory\. To fix, pass a str of"):
            function(tmp_path / "runs", tag)
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_a_directory_of_other_things_are_not_runs(tmp_path):
    (tmp_path / "notes").touch()
    with pytest.raises(RunDirectoryError, match=r"notes is a file, so no run can have this name"):
        open_or_make(tmp_path, "notes")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    with pytest.raises(RunDirectoryError, match=r"link is a file, so no run can have this name"):
        open_or_make(tmp_path, "link")
    (tmp_path / "data").mkdir()
    for name in "dacbe":
        (tmp_path / "data" / name).touch()
    with pytest.raises(
        RunDirectoryError, match=r"data isn't the directory of a run: it has no config\.json, but a, b,"
    ):
        open_or_make(tmp_path, "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [*"abcde"]


@pytest.mark.parametrize("names", [(), (".lock",), ("states", "notes"), ("config.json",)])
def test_what_a_killed_process_has_left_is_a_run(tmp_path, names):
    for name in names:
        (tmp_path / "my-run" / name).mkdir(parents=True)
    assert open_or_make(tmp_path, "my-run").path == tmp_path / "my-run"


def test_a_directory_outside_of_the_folder_is_not_opened(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "runs" / "my-run").symlink_to(tmp_path / "other")
    with pytest.raises(RunDirectoryError, match="leads out of"):
        open_or_make(tmp_path / "runs", "my-run")
