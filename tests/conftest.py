import os

# Before datasets is imported: the tests read local files only, and need not wait for a hub that can't be reached.
os.environ["HF_HUB_OFFLINE"] = "1"
# One thread a process: the tests run side by side, and so do the subprocesses they start.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--screenshots", metavar="FOLDER", help="where the tests in a browser keep pictures")
