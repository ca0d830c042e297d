"""A change of the code, or code of the user's, is seen."""

import os

import pytest

from yolojax import registry
from yolojax.program.kept import code


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Returns the folder of a package of two files."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.py").write_text("A = 1\n")
    (tmp_path / "inner" / "b.py").write_text("B = 2\n")
    monkeypatch.setattr(code, "_PACKAGE", tmp_path)
    monkeypatch.setattr(registry, "_own", [])
    return tmp_path


def test_files_are_told_by_what_is_in_them(package):
    first = code.read()
    assert first.stands() and code.read() == first
    os.utime(package / "a.py", ns=(1, 1))  # as of another checkout
    assert not first.stands() and code.read().digest == first.digest
    (package / "inner" / "b.py").write_text("B = 3\n")
    assert code.read().digest != first.digest


def test_a_new_file_is_seen(package):
    first = code.read()
    (package / "c.py").write_text("")
    assert not first.stands() and code.read().digest != first.digest


def test_own_modules_are_seen(package):
    first = code.read()
    registry.resolve({"known": 1}, "known", "model")
    assert first.stands()
    registry.resolve({"known": 1}, "json:loads", "model")
    assert not first.stands()


def test_no_files_and_packages_of_a_checkout_are_no_ground(package, monkeypatch):
    first = code.read()
    monkeypatch.setattr(code, "_changing", lambda: True)
    assert not first.stands()
    monkeypatch.undo()
    assert not code._changing() and not code.Code("", ()).stands()


def test_what_compilers_read_is_told(monkeypatch):
    before = code.surroundings()
    assert before == code.surroundings()
    monkeypatch.setenv("XLA_FLAGS", "--xla_other")
    assert code.surroundings() != before
