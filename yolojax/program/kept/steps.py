"""Compiled steps, found again without tracing them.

JAX keeps what it compiles by the text of a program, so that each start traces all of a
step, seconds of Python, to learn that nothing has changed. Here a step is named by what
decides it (`kept/identity.py`, `kept/code.py`), and this name leads to the program that
JAX has kept. Nothing is compiled here, and no program is kept twice. Whatever is in
doubt is traced as ever.
"""

import dataclasses
import hashlib
import io
import logging
import pickle
import re
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.sharding import Mesh

from yolojax import files
from yolojax.program.kept import code as code_lib
from yolojax.program.kept import folder, identity

FORM = "1"  # of the entries; another one is not read
MOST = 256  # entries, of which the newest ones stay
KEY = re.compile("persistent compilation cache .* with key", re.IGNORECASE)

log = logging.getLogger("yolojax")
_jax_log = logging.getLogger("jax._src.compiler")
_thread = threading.local()  # the key of what the thread has compiled
_code: code_lib.Code | None = None  # None: steps are not kept


@dataclasses.dataclass(frozen=True)
class Traceable:
    """A step with all that decides what it is compiled to, arguments aside."""

    step: Callable[..., Any]
    donated: tuple[int, ...] = ()  # places of arguments
    out: Any = None  # shardings of the results, None: as they come
    matmul: str | None = None  # precision of products

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """Returns the step, lowered for arrays or for shapes with shardings."""
        jitted = jax.jit(self.step, donate_argnums=self.donated, out_shardings=self.out)
        with jax.default_matmul_precision(self.matmul):
            return jitted.lower(*arguments)


def keep() -> None:
    """Has steps kept by this process, where JAX keeps its programs.

    Only for a program that is nothing but this package: in a process of others,
    whatever it is made of may be changed. To be called before steps are imported.
    """
    global _code
    _code = code_lib.read()
    if not any(isinstance(known, _Keys) for known in _jax_log.filters):
        _jax_log.addFilter(_Keys(_jax_log.getEffectiveLevel()))
        _jax_log.setLevel(logging.DEBUG)


def compiled(
    what: Traceable,
    arguments: tuple[Any, ...],
    *,
    traced: Callable[[], None] = lambda: None,
    later: Callable[[Callable[[], None]], None] = lambda task: task(),
) -> Any:
    """Returns a compiled step: the kept one, or one that is kept from now on.

    Args:
        what: the step.
        arguments: arrays, or shapes with shardings.
        traced: called when Python's part is done, if there is any.
        later: is given what can be done once the program is used.
    """
    name = _name(what, arguments)
    if name is not None and (kept := _found(name, arguments)) is not None:
        return kept
    lowered = what.lower(*arguments)
    traced()
    _thread.key = None
    program = lowered.compile()
    key = _thread.key  # which JAX has logged in this thread
    if name is not None and key is not None:
        later(lambda: _keep(name, key, program))
    return program


def place(kind: str, what: Any) -> Path | None:
    """Returns the file of what is computed from a value by our code alone.

    None if it must be computed anew: nothing is kept, or something is in doubt.

    Args:
        kind: of what is computed; the name of a folder.
        what: the value.
    """
    values = jax.config.values
    kept_in = values["jax_compilation_cache_dir"]
    wanted = kept_in and values["jax_enable_compilation_cache"]
    if _code is None or not wanted or jax.process_count() > 1 or not _code.stands():
        return None
    try:
        lines = (FORM, _code.digest, code_lib.surroundings(), identity.told(what))
    except identity.Unknown:
        return None
    return Path(kept_in) / kind / hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _name(what: Traceable, arguments: tuple[Any, ...]) -> Path | None:
    """Returns the file that leads to a program, None if that must be traced."""
    try:
        given = identity.told_arguments(arguments)
        _mesh(arguments)
    except identity.Unknown:
        return None
    return place("steps", (what, given))


def _found(name: Path, arguments: tuple[Any, ...]) -> Any:
    """Returns a kept program, None if there is none that can be loaded."""
    try:
        data = name.read_bytes()
    except OSError:  # it is not there
        return None
    try:
        body = zlib.decompress(data[32:])
        if hashlib.sha256(body).digest() != data[:32]:
            raise ValueError("it is not whole")
        key, executable, out = pickle.loads(body)
        entry = folder.entry(name.parents[1], key)
        if not entry.exists():  # JAX's files were removed
            name.unlink(missing_ok=True)
            return None
        program = _loaded(executable, folder.program(entry), out, arguments)
        name.touch()
        return program
    except Exception as error:  # of any kind: it is only a faster way
        log.info("a kept step cannot be loaded and is made anew: %s", error)
        name.unlink(missing_ok=True)
        return None


def _loaded(
    executable: bytes, data: bytes, out: Any, arguments: tuple[Any, ...]
) -> Any:
    """Returns a program, as `serialize_executable.deserialize_and_load` does.

    Args:
        executable: all of it but what XLA has made, pickled.
        data: what XLA has made, serialised.
        out: a tree like that of the results.
        arguments: of the program.
    """
    devices = list(_mesh(arguments).devices.flat)
    reader = _Reader(io.BytesIO(executable), devices[0].client, devices)
    reader.data = data
    unloaded, infos, no_kwargs = reader.load()
    tree: Any = jax.tree.structure((arguments, {}))
    return jax.stages.Compiled(
        unloaded.load(),
        [],
        tree.unflatten(infos),
        jax.tree.structure(out),
        no_kwargs=no_kwargs,
    )


def _mesh(arguments: tuple[Any, ...]) -> Mesh:
    """Returns the mesh that all arguments lie on.

    Raises:
        identity.Unknown: there is no such mesh.
    """
    shardings = {getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(arguments)}
    found = {getattr(sharding, "mesh", None) for sharding in shardings}
    if len(found) != 1 or not isinstance(mesh := found.pop(), Mesh):
        raise identity.Unknown(found)
    return mesh


def _keep(name: Path, key: str, program: Any) -> None:
    """Writes what leads to a program."""
    if _code is None or not _code.stands():  # changed while it was traced
        return
    try:
        if not folder.entry(name.parents[1], key).exists():  # compiled too fast
            return
        tree = program.out_tree
        out = tree.unflatten(range(tree.num_leaves))
        body = pickle.dumps((key, _pickled(program), out))
        data = hashlib.sha256(body).digest() + zlib.compress(body)
        files.replace_bytes(name, data)
        forget(name.parent)
    except Exception as error:  # the run goes on without
        log.debug("a step is not kept: %s", error)


def _pickled(program: Any) -> bytes:
    """Returns all of a program but what XLA has made; see `_loaded`."""
    if program._params.const_args:
        raise ValueError("it has constants beside its arguments")
    infos = jax.tree.leaves(program.args_info)
    file = io.BytesIO()
    unloaded = program._executable._unloaded_executable
    _Writer(file).dump((unloaded, infos, program._no_kwargs))
    return file.getvalue()


class _Writer(serialize_executable._JaxPjrtPickler):
    def persistent_id(self, obj: Any) -> Any:
        found = "LoadedExecutable" in type(obj).__name__
        return ("exec", b"") if found else super().persistent_id(obj)


class _Reader(serialize_executable._JaxPjrtUnpickler):
    data = b""

    def persistent_load(self, pid: Any) -> Any:
        return super().persistent_load(("exec", self.data) if pid[0] == "exec" else pid)


def forget(folder_of: Path) -> None:
    """Removes the entries that were not used for longest, if there are many."""
    entries = sorted(folder_of.iterdir(), key=lambda path: path.stat().st_mtime)
    for path in entries[:-MOST]:
        path.unlink(missing_ok=True)


class _Keys(logging.Filter):
    """Notes the names that JAX keeps programs under: it tells nobody but its log."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level  # what is logged without us

    def filter(self, record: logging.LogRecord) -> bool:
        given: Any = record.args
        if KEY.search(str(record.msg)) and given and len(given) == 2:
            _thread.key = given[1]
        return record.levelno >= self._level
