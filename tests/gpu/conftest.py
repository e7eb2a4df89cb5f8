"""The device of these tests: a GPU; without one, the CPU, on which they show that they are right themselves."""

import os

import pytest
import torch

# cuBLAS reads it when it is first used; deterministic algorithms need it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "gpu":
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def device_name():
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU is available")
    return torch.device("cuda")
