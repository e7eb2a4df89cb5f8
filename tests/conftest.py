import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

# Before datasets is imported: the tests only read local files and must not wait for a hub that can't be reached.
os.environ["HF_HUB_OFFLINE"] = "1"
# One thread per process: tests run in parallel, and so do their subprocesses.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import HealthCheck, settings
from programs import Programs

IN_MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 2 * 2**30  # four times what the tests write

torch.set_num_threads(1)
# Temporary folders in memory, where fsync returns at once: otherwise the tests wait a tenth of their time for the disk.
if "TMPDIR" not in os.environ and IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ENOUGH_BYTES:
    os.environ["TMPDIR"] = tempfile.tempdir = str(IN_MEMORY)
# A loaded machine takes any time for an example.
settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any load")
# A shell ignores SIGINT in what it runs in the background, and the processes of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    gc.collect()
    gc.freeze()  # otherwise each full collection visits all that is imported and collected, a million objects


def pytest_addoption(parser):
    parser.addoption("--screenshots", metavar="FOLDER", help="where the browser tests save screenshots")


@pytest.fixture(scope="session")
def programs():
    """Starts programs in processes of their own, without the time for their imports."""
    with Programs() as programs:
        yield programs
