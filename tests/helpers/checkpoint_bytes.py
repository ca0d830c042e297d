"""Checkpoints made byte by byte: pieces of pickles, archives, a small whole model."""

import struct
import zlib

PROTO = b"\x80\x02"
CLASSES = "somewhere.nn.modules."  # the package of the module classes does not matter


# Pieces of pickles: each leaves one value on the stack.


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value):
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def named(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def group(*items):
    return b"(" + b"".join(items) + b"t"


def listed(*items):
    return b"](" + b"".join(items) + b"e"


def mapped(items):
    return b"}(" + b"".join(text(key) + items[key] for key in items) + b"u"


def called(function, *args):
    return function + group(*args) + b"R"


def plain(value):
    """Returns the piece for a value of plain types."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return b"}(" + b"".join(plain(x) for kv in value.items() for x in kv) + b"u"
    return (group if isinstance(value, tuple) else listed)(*map(plain, value))


def storage(kind, key, count):
    where = text("storage"), named("torch", kind), text(key), text("cpu")
    return group(*where, plain(count)) + b"Q"


REBUILD = named("torch._utils", "_rebuild_tensor_v2")
NO_HOOKS = called(named("collections", "OrderedDict"))


def tensor(where, size, stride, *, offset=0, hooks=NO_HOOKS):
    return called(
        REBUILD, where, plain(offset), plain(size), plain(stride), b"\x89", hooks
    )


def module(kind, parameters=None, buffers=None, children=None, **state):
    """Returns the piece for a module of a "package.Class"; the rest are pieces."""
    state = {
        "_parameters": mapped(parameters or {}),
        "_buffers": mapped(buffers or {}),
        "_modules": mapped(children or {}),
    } | state
    package, _, name = kind.rpartition(".")
    return named(package, name) + b")\x81" + mapped(state) + b"b"


# Archives.


def packed(members, *, method=0, flags=0, edit=lambda local, entry: (local, entry)):
    """Returns a zip file.

    Args:
        members: (name, bytes) of each.
        method: 0 stored, 8 deflated.
        flags: of each member.
        edit: changes the bytes of a member with its header, and its directory entry.
    """
    body, directory = b"", b""
    for name, data in members:
        name = name if isinstance(name, bytes) else name.encode()
        stored = zlib.compress(data)[2:-4] if method else data
        common = struct.pack(
            "<4H3L2H", flags, method, 0, 0, zlib.crc32(data), len(stored), len(data),
            len(name), 0,
        )  # fmt: skip
        local = b"PK\3\4\x14\0" + common + name + stored
        place = struct.pack("<3H2L", 0, 0, 0, 0, len(body))
        entry = b"PK\1\2\x14\0\x14\0" + common + place + name
        local, entry = edit(local, entry)
        body, directory = body + local, directory + entry
    return body + directory + ended(len(members), len(directory), len(body))


def ended(count, length, start):
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, length, start, 0)


def checkpoint(piece, storages=None, **members):
    """Returns a checkpoint with a pickle of one value."""
    return archive(PROTO + piece + b".", storages, **members)


def archive(data, storages=None, *, byteorder=b"little", more=(), **options):
    members = [("top/data.pkl", data), ("top/byteorder", byteorder), *more]
    members += [(f"top/data/{key}", raw) for key, raw in (storages or {}).items()]
    return packed(members, **options)


STORAGES = {"0": bytes(range(72)), "1": bytes(16)}
WEIGHT = tensor(storage("HalfStorage", "0", 36), (4, 1, 3, 3), (9, 9, 3, 1))
FOUR = tensor(storage("FloatStorage", "1", 4), (4,), (1,))


def model(hooks=NO_HOOKS, bias=b"N", norm=True, conv_state=None, **state):
    """Returns a small whole model: one convolution with batch norm, and a head."""
    weight = tensor(
        storage("HalfStorage", "0", 36), (4, 1, 3, 3), (9, 9, 3, 1), hooks=hooks
    )
    conv = module(
        "torch.nn.Conv2d", {"weight": weight, "bias": bias}, **conv_state or {}
    )
    running = {"running_mean": FOUR, "running_var": FOUR}
    settings = {"eps": plain(1e-3), "momentum": plain(0.03)}
    bn = module(
        "torch.nn.BatchNorm2d", {"weight": FOUR, "bias": FOUR}, running, **settings
    )
    act = module("torch.nn.SiLU")
    parts = {"conv": conv} | ({"bn": bn} if norm else {}) | {"act": act}
    layers = {
        "0": module(CLASSES + "conv.Conv", children=parts),
        "1": module(CLASSES + "head.Detect"),
    }
    sequence = module("torch.nn.Sequential", children=layers)
    state = {"names": plain({0: "cat", 1: "dog"}), "yaml": plain({"nc": 2})} | state
    return module("somewhere.nn.DetectionModel", children={"model": sequence}, **state)


def whole(train_args=None, **options):
    """Returns the piece for a whole checkpoint around `model(**options)`."""
    args = train_args or plain({"imgsz": 64})
    return mapped({"model": model(**options), "ema": b"N", "train_args": args})


GOOD = checkpoint(whole(), STORAGES)
