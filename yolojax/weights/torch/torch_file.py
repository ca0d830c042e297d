"""Reads a PyTorch checkpoint without PyTorch and without running anything from it.

A checkpoint is a zip file with a pickle, `data.pkl`, and a member of raw bytes for each
storage of tensor elements. Tensors and a few containers are built here, all else is an
`Inert`. A file that names what no weights need is refused: functions, and everything of
the standard library that is not listed below.

Time and memory are bounded by limits and by the size of the file.
"""

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from yolojax.weights.torch.archive import Archive, open_archive
from yolojax.weights.torch.pickle_machine import (
    DAMAGED,
    NAME,
    REFUSED,
    Call,
    Inert,
    Machine,
    Named,
    show,
)

__all__ = ["Inert", "read_checkpoint"]

MAX_PICKLE = 16 << 20  # bytes; the largest measured has 145 kB (scale n, segment)
MAX_DIMS = 8
MAX_COUNT = 1 << 40  # size, stride or offset of a tensor

STORAGES: dict[str, np.dtype] = {
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.BoolStorage": np.dtype("?"),
}

# Names in lower case, or of the standard library, that become inert objects. Classes of
# other packages, whose names begin in upper case, need no entry.
INERT = frozenset(
    """
    argparse.Namespace types.SimpleNamespace
    builtins.object builtins.dict builtins.list builtins.tuple builtins.type
    builtins.int builtins.float builtins.str builtins.bool
    datetime.date datetime.datetime datetime.time datetime.timedelta datetime.timezone
    pathlib.Path pathlib.PosixPath pathlib.WindowsPath
    pathlib.PurePosixPath pathlib.PureWindowsPath
    pathlib._local.Path pathlib._local.PosixPath pathlib._local.WindowsPath
    numpy.dtype numpy.ndarray numpy.bool numpy.bool_
    numpy.float16 numpy.float32 numpy.float64 numpy.int32 numpy.int64
    numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct
    numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct
    torch.device torch.bool torch.uint8 torch.int8 torch.int16 torch.int32 torch.int64
    torch.float16 torch.bfloat16 torch.float32 torch.float64
    torch.contiguous_format torch.channels_last torch.preserve_format torch.strided
    """.split()
)
# With modules that only Python 2 had, or that only run other code.
STANDARD = sys.stdlib_module_names | {"commands", "popen2", "urllib2", "cPickle"}
OTHER_TENSORS = re.compile(r"torch\.(_utils|_tensor)\._rebuild_\w+")


@dataclass(eq=False, repr=False, slots=True)
class Storage(Inert):
    """The elements that tensors are views of; `args` has them as one flat array."""

    dtype: np.dtype = np.dtype("u1")
    raw: bytes = b""


def read_checkpoint(path: Path) -> Any:
    """Returns the object in a checkpoint.

    It is made of None, bool, int, float, str, bytes, list, tuple, dict, set, read-only
    NumPy arrays and `Inert`. Lists, dicts and inert objects may contain themselves.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no PyTorch checkpoint, is damaged, asks for more than tensors
            and plain objects, or breaks a limit.
    """
    path = Path(path)
    try:
        with open_archive(path) as archive:
            storages = _Storages(archive, _folder(archive))
            data = archive.read(f"{storages.folder}/data.pkl")
            return Machine(_check_name, CALLS, storages.get).run(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _folder(archive: Archive) -> str:
    """Returns the archive's one top folder, whose name the writer chose."""
    members = archive.members
    if any(n.endswith("/constants.pkl") or "/code/" in n for n in members):
        raise ValueError(
            "was saved with torch.jit, as a program. Save the model with torch.save."
        )
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].count("/") != 1:
        raise ValueError(
            f"is a zip file with {len(pickles)} members data.pkl; a PyTorch checkpoint"
            " has one, in its top folder. Name a file written by torch.save."
        )
    size = members[pickles[0]].size
    if size > MAX_PICKLE:
        raise ValueError(f"data.pkl has {size} bytes, at most {MAX_PICKLE} are read.")
    folder = pickles[0].removesuffix("/data.pkl")
    order = f"{folder}/byteorder"
    if order in members:
        word = archive.read(order) if members[order].size < 16 else b"?"
        if word.strip() != b"little":
            raise ValueError(
                f"has the byte order {word!r}, only b'little' is read. Save it again on"
                " a little-endian machine."
            )
    return folder


def _check_name(kind: str) -> None:
    """Refuses names that are not of plain classes."""
    if kind in CALLS or kind in INERT or kind in STORAGES:
        return
    if OTHER_TENSORS.fullmatch(kind):
        raise ValueError(
            f"holds a tensor of a kind that is not read ({kind}). Save it again with"
            " plain dense tensors: not sparse, quantised or of a subclass."
        )
    package = kind.partition(".")[0]
    is_class = kind.rpartition(".")[2].lstrip("_")[:1].isupper()
    if package in STANDARD or not is_class:
        raise ValueError(f"asks to run {kind}, {REFUSED}")


class _Storages:
    """The storages of a checkpoint, each read once."""

    def __init__(self, archive: Archive, folder: str):
        self.archive = archive
        self.folder = folder
        self.read: dict[str, Storage] = {}

    def get(self, what: Any) -> Storage:
        """Returns the storage of a persistent id."""
        if type(what) is not tuple or len(what) != 5 or show(what[0]) != "'storage'":
            raise ValueError(f"its pickle refers to what is no storage. {DAMAGED}")
        _, kind, key, _, count = what
        if type(kind) is not Named or kind.kind not in STORAGES:
            raise ValueError(
                f"holds tensor elements of the kind {show(kind)}, which is not read."
                f" Save it again with one of {', '.join(STORAGES)}."
            )
        member = f"{self.folder}/data/{key}" if type(key) is str else ""
        if member not in self.archive.members:
            raise ValueError(f"has no member for storage {show(key)}. {DAMAGED}")
        size = self.archive.members[member].size
        dtype = STORAGES[kind.kind]
        if type(count) is not int or count * dtype.itemsize != size:
            raise ValueError(
                f"storage {show(key)} has {size} bytes, but its pickle says"
                f" {show(count)} elements of {dtype.itemsize} bytes. {DAMAGED}"
            )
        if key not in self.read:
            raw = self.archive.read(member)
            flat = np.ndarray(count, dtype, raw)
            self.read[key] = Storage(kind.kind, (flat,), dtype=dtype, raw=raw)
            if dtype == np.dtype("?") and raw.strip(b"\0\1"):
                raise ValueError(f"storage {show(key)} holds no booleans. {DAMAGED}")
        if self.read[key].kind != kind.kind:
            raise ValueError(
                f"storage {show(key)} has two kinds of elements. {DAMAGED}"
            )
        return self.read[key]


# Calls that are carried out.


def _tensor(machine: Machine, args: tuple) -> np.ndarray:
    """Returns a tensor: a view of a storage."""
    if len(args) not in (6, 7) or type(args[0]) is not Storage:
        raise ValueError(f"its pickle makes a tensor from no storage. {DAMAGED}")
    storage, offset, size, stride = args[:4]
    if type(size) is not tuple or type(stride) is not tuple:
        raise ValueError(f"its pickle makes a tensor without a shape. {DAMAGED}")
    if len(size) != len(stride) or len(size) > MAX_DIMS:
        raise ValueError(
            f"its pickle makes a tensor of {len(size)} sizes and {len(stride)} strides;"
            f" it must be as many, at most {MAX_DIMS}. {DAMAGED}"
        )
    for number in (offset, *size, *stride):
        if type(number) is not int or not 0 <= number <= MAX_COUNT:
            raise ValueError(
                f"its pickle makes a tensor with the size, stride or offset"
                f" {show(number)}; allowed is 0 to {MAX_COUNT}. {DAMAGED}"
            )
    return _view(storage, offset, size, stride)


def _view(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> np.ndarray:
    """Returns a view; offset and strides count elements."""
    item = storage.dtype.itemsize
    total = len(storage.raw) // item
    used = list(zip(size, stride, strict=True))
    end = offset  # behind the last element used
    if math.prod(size):
        end += 1 + sum((n - 1) * step for n, step in used)
    shown = f"its pickle makes a tensor of shape {size}, strides {stride}"
    if end <= total < math.prod(size):  # small here, but a copy could be huge
        raise ValueError(
            f"{shown} that repeats {total} stored elements. Save it again with all"
            " tensors made contiguous."
        )
    if end > total or math.prod(n or 1 for n in size) > MAX_COUNT:
        raise ValueError(
            f"{shown} and offset {offset} from {total} stored elements. {DAMAGED}"
        )
    strides = [step * item if n > 1 else 0 for n, step in used]
    return np.ndarray(size, storage.dtype, storage.raw, offset * item, strides)


def _parameter(machine: Machine, args: tuple) -> np.ndarray:
    """Returns the tensor of a parameter without its hooks and attributes."""
    if len(args) not in (3, 4) or not isinstance(args[0], np.ndarray):
        raise ValueError(f"its pickle makes a parameter from no tensor. {DAMAGED}")
    return args[0]


def _only_list(machine: Machine, args: tuple) -> list | tuple:
    """Returns the elements that a container is made from; no argument means none."""
    if not args:
        return ()
    if len(args) != 1 or type(args[0]) not in (list, tuple):
        raise ValueError(f"its pickle makes a container from no list. {DAMAGED}")
    machine.spend(len(args[0]))
    return args[0]


def _ordered_dict(machine: Machine, args: tuple) -> dict:
    pairs = _only_list(machine, args)
    if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise ValueError(f"its pickle makes a dict from no pairs. {DAMAGED}")
    return {machine.key(key): value for key, value in pairs}


def _set(machine: Machine, args: tuple) -> set:
    return {machine.key(value) for value in _only_list(machine, args)}


def _size(machine: Machine, args: tuple) -> tuple:
    return tuple(_only_list(machine, args))


def _encoded(machine: Machine, args: tuple) -> bytes:
    """Returns bytes, which protocol 2 writes as text."""
    coding = args[1] if [type(value) for value in args] == [str, str] else None
    if coding not in ("latin1", "latin-1"):
        raise ValueError(f"asks for an encoding other than latin1, {REFUSED}")
    machine.spend(len(args[0]))
    return args[0].encode("latin-1")


def _empty_bytes(machine: Machine, args: tuple) -> bytes:
    """Returns no bytes, which protocol 2 writes as a call without arguments."""
    if args:
        raise ValueError(f"its pickle makes bytes from {show(args[0])}. {DAMAGED}")
    return b""


def _attribute(machine: Machine, args: tuple) -> Inert:
    """Returns a note that an attribute of a class was wanted, such as its `forward`."""
    if len(args) != 2 or type(args[0]) is not Named or type(args[1]) is not str:
        raise ValueError(f"asks for an attribute of no class, {REFUSED}")
    if not NAME.fullmatch(args[1]) or args[1].startswith("_"):
        raise ValueError(f"asks for the attribute {show(args[1])}, {REFUSED}")
    return Inert("builtins.getattr", args)


def _reconstructed(machine: Machine, args: tuple) -> Inert:
    """Returns an object described by its class, base class and content."""
    if len(args) != 3 or type(args[0]) is not Named:
        raise ValueError(f"its pickle makes an object of no class. {DAMAGED}")
    return Inert(args[0].kind, args[2:])


CALLS: dict[str, Call] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _size,
    "collections.OrderedDict": _ordered_dict,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.getattr": _attribute,
    "copyreg._reconstructor": _reconstructed,
    "builtins.bytes": _empty_bytes,
    "_codecs.encode": _encoded,
}
