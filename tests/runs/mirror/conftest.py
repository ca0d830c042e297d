"""Machines: cache folders of their own, in which runs of buckets are worked on."""

import pytest


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Begins on one machine; calling it changes to another one."""

    def change(name):
        monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / name))

    change("first")
    return change
