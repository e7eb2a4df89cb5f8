import os

# Before datasets is imported: the tests only read local files and must not wait for a hub that can't be reached.
os.environ["HF_HUB_OFFLINE"] = "1"
# One thread per process: tests run in parallel, and so do their subprocesses.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--screenshots", metavar="FOLDER", help="where the browser tests save screenshots")
