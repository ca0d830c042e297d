"""A web server for the tests of this folder."""

import contextlib

import loopback
import pytest


@pytest.fixture
def serve(monkeypatch):
    """Starts servers: serve(answer) returns the address of one, until the test ends."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        yield lambda answer: stack.enter_context(loopback.server(answer))
