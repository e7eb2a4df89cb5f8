import math

import pytest

from torchbase.errors import RunDirectoryError
from torchbase.run_directory.best_networks import BestNetworks, SavedBest, read_best_networks, write_best_networks

FILE = "best_networks/networks.json"


def test_what_is_written_is_read_again(tmp_path):
    (tmp_path / "best_networks").mkdir()
    networks = (SavedBest("best_networks/a.pth", 3, 30, 0.25), SavedBest("best_networks/b.pth", 1, 10, math.inf))
    best = BestNetworks("loss", "validation-valid", "min", networks)
    write_best_networks(tmp_path, best)
    assert read_best_networks(tmp_path) == best


def test_a_run_that_wrote_no_list_has_none(tmp_path):
    assert read_best_networks(tmp_path) is None


@pytest.mark.parametrize("text", ["[]", '{"format_version": 2}', '{"format_version": 1, "monitor": "loss"}'])
def test_a_file_that_is_no_list_is_an_error(tmp_path, text):
    (tmp_path / "best_networks").mkdir()
    (tmp_path / FILE).write_text(text)
    with pytest.raises(RunDirectoryError, match=r"isn't what torchbase writes there.*To fix, restore it, or remove it"):
        read_best_networks(tmp_path)
