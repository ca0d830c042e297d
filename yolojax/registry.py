"""Names in a config -> objects in code, and files of code -> modules."""

import difflib
import importlib
import importlib.util
from collections.abc import Collection, Iterable, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_own: list[str] = []  # modules of the user's


def own_modules() -> tuple[str, ...]:
    """Returns the modules that names outside of the tables have led to so far."""
    return tuple(_own)


class _AsItStands(SourceFileLoader):
    """Compiles a file whenever it is loaded, and leaves no bytecode beside it.

    Bytecode tells an edit by the second and the length: with it, a value changed by a
    script within a second would not be seen.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def module_of(file: Path, name: str) -> ModuleType:
    """Returns the module that a Python file of the user's makes, run as it stands now.

    Args:
        file: its path.
        name: of the module; it is not put among those that are imported.

    Raises:
        Exception: whatever the file raises.
    """
    loader = _AsItStands(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def resolve(table: Mapping[str, Any], name: str, key: str) -> Any:
    """Returns table[name], or the object that "package.module:attribute" names.

    Importing runs code. Only for names that the user wrote, on the command line or in
    a config file; names that stand in files of a run, which somebody may have sent,
    are for `lookup`.

    Args:
        table: the built-in choices.
        name: value found in the config.
        key: path of that value in the config, for the error message.

    Raises:
        ValueError: `name` is neither in the table nor importable.
    """
    if name in table or ":" not in name:
        return lookup(table, name, key)
    module, _, attribute = name.partition(":")
    _own.append(module)  # also if it is cut off in the middle
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"config.{key} = {name!r} cannot be imported: {error}. Write"
            " 'package.module:attribute'; Python looks for the package in the"
            " current folder and in PYTHONPATH."
        ) from error


def lookup(table: Mapping[str, Any], name: str, key: str) -> Any:
    """Returns table[name]; imports nothing, whatever the name is.

    Args:
        table: the built-in choices.
        name: value found in a config or in a file of a run.
        key: path of that value in the config, for the error message.

    Raises:
        ValueError: `name` is not in the table.
    """
    if name in table:
        return table[name]
    own = " To use your own, write 'package.module:attribute' on the command line."
    raise ValueError(
        f"config.{key} = {name!r} is unknown.{did_you_mean(name, table)}"
        f" Built in: {', '.join(sorted(table))}.{own}"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the nearest known name, else ""."""
    lowered = {word.lower(): word for word in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f" Did you mean {lowered[close[0]]!r}?" if close else ""


def meant_for(name: str, given: Iterable[object], known: Collection[str]) -> str:
    """Returns " `y` is not read. Did you mean 'x'?" for a y that should be `name`.

    Args:
        name: what is missed.
        given: what is there.
        known: all that is read.
    """
    for other in map(str, given):
        said = "" if other in known else did_you_mean(other, known)
        if said == did_you_mean(name, (name,)):
            return f" `{other}` is not read.{said}"
    return ""
