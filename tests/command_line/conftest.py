import time

import pytest
from made_up import Command


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """The cache folder of the user, so that no test reads or writes an index of somebody else."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def time_zone(monkeypatch):
    """A time zone that differs from UTC."""
    if hasattr(time, "tzset"):  # not on Windows
        monkeypatch.setenv("TZ", "XXX-05:30")  # POSIX: five and a half hours ahead of UTC
        time.tzset()
        yield
        monkeypatch.undo()
        time.tzset()
    else:
        yield


@pytest.fixture
def command(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    return Command(capsys)
