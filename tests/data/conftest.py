import pytest

from torchbase.data import arrow_columns


@pytest.fixture(params=["short", "long"])
def column_length(request, monkeypatch):
    """Has every column read once as a short one and once as one that is too long to be looked through."""
    if request.param == "long":
        monkeypatch.setattr(arrow_columns, "LISTS_LOOKED_AT", -1)
