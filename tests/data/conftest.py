import pytest

from torchbase.data import arrow_columns


@pytest.fixture(params=["short", "long"])
def column_length(request, monkeypatch):
    """Runs a test twice: all columns count as short, then all columns count as long."""
    if request.param == "long":
        monkeypatch.setattr(arrow_columns, "MOST_LISTS_COMPARED", -1)
