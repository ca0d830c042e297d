"""What the settings of runs name, by its content: data, weights and code."""

import ast
import hashlib
import importlib.machinery
import json
import os
import sys
from pathlib import Path
from typing import Any

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.assembly.weights import given_weights, weights_hash
from yolojax.config import recorded
from yolojax.config.values import is_published_name
from yolojax.registry import did_you_mean
from yolojax.runs.data_notes import data_identity


class Contents:
    """Hashes of what the settings of runs name: data, weights and code."""

    def __init__(self, folder: Path) -> None:
        """Looks at nothing yet.

        Args:
            folder: of the study; modules in it come before others.
        """
        self._folder = folder
        self._known: dict[tuple[str, ...], str] = {}  # what was looked at

    def of(self, config: Any) -> dict[str, str]:
        """Returns the settings that name something, with what it holds.

        Raises:
            ValueError: it is not there.
        """
        found = {"data": self._once(("data", config.task, config.data), config)}
        given = config.pretrained
        if isinstance(given, str) and not is_published_name(given):
            found["pretrained"] = self._once(("pretrained", given), config)
        for name, value in recorded.code_of_its_own(config).items():
            found[name] = f"{value} {self._once((name, value), config)}"
        return found

    def _once(self, what: tuple[str, ...], config: Any) -> str:
        if what not in self._known:
            if what[0] == "data":
                self._known[what] = _data_hash(config)
            elif what[0] == "pretrained":
                self._known[what] = weights_hash(given_weights(config, "pretrained"))
            else:
                key, name = what
                self._known[what] = code_hash(key, name, self._folder)
        return self._known[what]


def _data_hash(config: Any) -> str:
    """Returns a hash of the pictures and labels of a data set, wherever it lies."""
    whole = config_lib.changed(
        config, classes=None, single_cls=False, fraction=1.0, seed=0
    )
    digest = hashlib.sha256()
    for source in loading.open_splits(whole, ("train", "val")):
        identity = data_identity(source)
        told = [identity.names, identity.images, identity.content]
        digest.update(json.dumps(told).encode())
    return digest.hexdigest()[:12]


def code_hash(key: str, name: str, folder: Path) -> str:
    """Returns a hash of the source of a "module:attribute".

    Modules beside it that it imports are part of it. Nothing is imported here.

    Args:
        key: the setting that names it.
        name: its value.
        folder: where modules are looked for before other places.

    Raises:
        ValueError: there is no such module, or nothing of the name in it.
    """
    module, _, attribute = name.partition(":")
    path = _module_file(module, folder)
    if path is None:
        raise ValueError(
            f"config.{key} = {name!r}: there is no module {module!r}, neither beside"
            " the study's file nor where Python looks for modules."
        )
    sources: dict[Path, str] = {}
    _add_sources(path, sources)
    if attribute not in _top_names(sources[path]):
        near = did_you_mean(attribute, _top_names(sources[path]))
        raise ValueError(
            f"config.{key} = {name!r}: {path} makes nothing of that name.{near}"
        )
    digest = hashlib.sha256()
    for source in sorted(sources, key=str):
        digest.update(f"{source.name}\n{sources[source]}".encode())
    return digest.hexdigest()[:12]


def _module_file(module: str, folder: Path) -> Path | None:
    """Returns the file of a module; None: there is none, or it is not Python's text."""
    places: Any = [str(folder), os.getcwd(), *sys.path]  # as `jobs`
    spec = None
    for part in module.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, places)
        if spec is None:
            return None
        places = spec.submodule_search_locations or []
    path = Path(spec.origin) if spec and spec.origin else None
    return path if path is not None and path.suffix == ".py" else None


def _add_sources(path: Path, sources: dict[Path, str]) -> None:
    """Adds the text of a module, and of those beside it that it imports."""
    if path in sources:
        return
    try:
        sources[path] = path.read_text(encoding="utf-8")
        tree = ast.parse(sources[path])
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    for node in ast.walk(tree):
        names = [alias.name for alias in getattr(node, "names", [])] \
            if isinstance(node, ast.Import) else []  # fmt: skip
        if isinstance(node, ast.ImportFrom):
            names = [node.module or alias.name for alias in node.names]
        for name in names:
            beside = path.parent / f"{name.partition('.')[0]}.py"
            if beside.is_file():
                _add_sources(beside, sources)


def _top_names(text: str) -> list[str]:
    """Returns the names that a module makes outside of functions."""
    found = []
    for node in ast.parse(text).body:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                found.append(part.id)
            if isinstance(part, ast.Import | ast.ImportFrom):
                found += [alias.asname or alias.name for alias in part.names]
            if isinstance(part, ast.FunctionDef | ast.ClassDef):
                found.append(part.name)
    return found
