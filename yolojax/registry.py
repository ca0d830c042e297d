"""Names in a config -> objects in code."""

import difflib
import importlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

_own: list[str] = []  # modules of the user's


def own_modules() -> tuple[str, ...]:
    """Returns the modules that names outside of the tables have led to so far."""
    return tuple(_own)


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
