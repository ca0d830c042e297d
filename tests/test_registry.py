"""Names that the user wrote may be imported; names out of files never."""

import ast
import os
import sys

import pytest
from places import ROOT

from yolojax import registry

TABLE = {"adam": 1, "sgd": 2}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that tells whether it was imported."""
    (tmp_path / "sent_by_somebody.py").write_text("make = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "sent_by_somebody"
    sys.modules.pop("sent_by_somebody", None)


def test_names_of_the_user_may_be_imported(module):
    assert registry.resolve(TABLE, "sgd", "optimizer") == 2
    assert registry.resolve(TABLE, f"{module}:make", "optimizer") == 3
    with pytest.raises(ValueError, match="cannot be imported"):
        registry.resolve(TABLE, f"{module}:made", "optimizer")
    with pytest.raises(ValueError, match="Did you mean 'adam'"):
        registry.resolve(TABLE, "adm", "optimizer")


def test_names_of_files_are_never_imported(module):
    assert registry.lookup(TABLE, "sgd", "optimizer") == 2
    for name in (f"{module}:make", "os:getcwd", "adm"):
        with pytest.raises(ValueError, match="is unknown"):
            registry.lookup(TABLE, name, "optimizer")
    assert module not in sys.modules


def test_a_file_of_the_user_is_taken_as_it_stands(tmp_path, monkeypatch):
    """Also after an edit that leaves its second and its length."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for value in (1, 2):
        file.write_text(f"value = {value}\n")
        os.utime(file, (0, 0))
        assert registry.module_of(file, "mine").value == value
    assert [*tmp_path.iterdir()] == [file]


def calls(tree, name):
    """Returns whether a module calls registry.<name>."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == name
        and getattr(node.value, "id", None) == "registry"
        for node in ast.walk(tree)
    )


def test_only_what_gets_names_from_the_config_imports_them():
    places = {
        str(path.relative_to(ROOT / "yolojax"))
        for path in (ROOT / "yolojax").rglob("*.py")
        if calls(ast.parse(path.read_text()), "resolve")
        or "import_module" in path.read_text()
    }
    # These import modules of tables of their own: commands, executors, what stands on
    # an optional package, and what takes long to load.
    own = {"main.py", "commands/search.py", "studies/executors/__init__.py"}
    own.add("visualize/__init__.py")
    others = places - {*own, "registry.py"}
    assert others == {"models/__init__.py", "optim/transforms.py"}
    builders = {
        str(path.relative_to(ROOT / "yolojax"))
        for path in (ROOT / "yolojax").rglob("*.py")
        if any(f"{room}.build(" in path.read_text() for room in ("models", "optim"))
    }
    assert builders == {"assembly/network.py", "assembly/optimizer.py"}
