"""A data set without a fault, and a cache of its own."""

import pytest
from examined import write


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data")
