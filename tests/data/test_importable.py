import pytest

from torchbase.data.importable import check_workers_can_import

PROGRAM = """
import multiprocessing, sys
import numpy as np
from torchbase.data.reading import data_loader

class Sums:
    def __getitem__(self, row):
        return row + row

def double(row):
    return 2 * row

class Holds:
    def __init__(self, *values):
        self.values = values

multiprocessing.set_start_method(sys.argv[1])
values = {"class": Sums(), "function": [np.ones(3), double], "of others": [len, np.ones(3), np.random.default_rng(1)]}
try:
    data_loader(values[sys.argv[2]], range(3), num_workers=1, pin_memory=False)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("method", "what", "name"), [("spawn", "class", "Sums"), ("forkserver", "function", "double")])
def test_what_a_program_without_a_file_defines_is_refused_for_workers_that_import_it(programs, method, what, name):
    done = programs.run("-c", PROGRAM, method, what)
    assert done.stdout.startswith(f"DataError Workers are started by '{method}' here, and can't import")
    assert f"defines: {name}. To fix," in done.stdout


@pytest.mark.parametrize(("method", "what"), [("fork", "class"), ("spawn", "of others")])
def test_what_workers_have_or_can_import_is_accepted(programs, method, what):
    done = programs.run("-c", PROGRAM, method, what)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_program_in_a_file_is_accepted(monkeypatch):
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "spawn")
    check_workers_can_import(check_workers_can_import)
