import pytest
from made_up import Command


@pytest.fixture
def command(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    return Command(capsys)
