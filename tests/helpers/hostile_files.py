"""Hostile and damaged checkpoints, by id: none of them may run or break anything."""

import struct

from checkpoint_bytes import (
    CLASSES,
    FOUR,
    GOOD,
    NO_HOOKS,
    PROTO,
    REBUILD,
    STORAGES,
    WEIGHT,
    archive,
    called,
    checkpoint,
    ended,
    group,
    integer,
    listed,
    mapped,
    model,
    module,
    named,
    packed,
    plain,
    storage,
    tensor,
    text,
    whole,
)

# Payloads: pieces that create a file when they are run.


def system(canary, of="os"):
    return called(named(of, "system"), text(f"touch {canary}"))


def by_setstate(canary):
    made = named("types", "SimpleNamespace") + b")\x81"
    swap = mapped({"__setstate__": named("os", "system")}) + b"b"
    return made + swap + text(f"touch {canary}") + b"b"


def by_getattr(canary):
    imported = called(named("builtins", "__import__"), text("os"))
    found = called(named("builtins", "getattr"), imported, text("system"))
    return called(found, text(f"touch {canary}"))


def by_memo(canary):
    put = named("os", "system") + b"q\x07" + b"0"
    command = text(f"touch {canary}") + b"\x85q\x08" + b"0"
    return put + command + b"h\x07h\x08R"


def python(canary):
    return f"open({str(canary)!r}, 'w').close()"


def new_with_keywords(canary):
    args = group(listed(text("touch"), text(str(canary))))
    return named("subprocess", "Popen") + args + b"}\x92"


POPEN = named("subprocess", "Popen")
GETATTR = named("builtins", "getattr")
ORDERED = named("collections", "OrderedDict")
DETECT = named(CLASSES + "head", "Detect")

ARMED = {  # these create the canary if a real unpickler runs them
    "os-reduce": system,
    "posix-reduce": lambda c: system(c, "posix"),
    "os-inst": lambda c: b"(" + text(f"touch {c}") + b"ios\nsystem\n",
    "os-obj": lambda c: b"(" + named("os", "system") + text(f"touch {c}") + b"o",
    "os-stack-global": lambda c: (
        text("os") + text("system") + b"\x93" + group(text(f"touch {c}")) + b"R"
    ),
    "os-memo": by_memo,
    "os-setstate": by_setstate,
    "os-getattr": by_getattr,
    "os-then-dropped": lambda c: system(c) + b"0N",
    "os-in-persistent-id": lambda c: group(system(c)) + b"0N",
    "builtins-eval": lambda c: called(named("builtins", "eval"), text(python(c))),
    "python2-eval": lambda c: called(named("__builtin__", "eval"), text(python(c))),
    "builtins-exec": lambda c: called(named("builtins", "exec"), text(python(c))),
    "builtins-open": lambda c: called(
        named("builtins", "open"), text(str(c)), text("w")
    ),
    "subprocess-popen": lambda c: called(POPEN, listed(text("touch"), text(str(c)))),
    "subprocess-obj": lambda c: (
        b"(" + POPEN + listed(text("touch"), text(str(c))) + b"o"
    ),
    "subprocess-call": lambda c: called(
        named("subprocess", "call"), listed(text("touch"), text(str(c)))
    ),
    "pathlib-touch": lambda c: called(
        named("builtins", "getattr"), called(named("pathlib", "Path"), text(str(c))),
        text("touch"),
    ) + b")R",
    "runpy": lambda c: called(
        named("runpy", "_run_code"), text(python(c)), b"}"
    ),
    "timeit": lambda c: called(named("timeit", "timeit"), text(python(c)), text(""),
        named("time", "perf_counter"), integer(1),
    ),
    "nested-pickle": lambda c: called(
        named("pickle", "loads"),
        called(
            named("_codecs", "encode"),
            text((PROTO + system(c) + b".").decode("latin-1")), text("latin1"),
        ),
    ),
    "importlib": lambda c: called(
        called(GETATTR, called(named("importlib", "import_module"), text("os")),
            text("system")), text(f"touch {c}"),
    ),
    "in-tensor-hooks": lambda c: whole(hooks=system(c)),
    "in-names": lambda c: whole(names=mapped({"0": system(c)})),
    "in-module-state": lambda c: whole(conv_state={"padding": system(c)}),
    "in-train-args": lambda c: whole(train_args=mapped({"imgsz": system(c)})),
}  # fmt: skip

UNARMED = {  # not for this machine or not enough to run something, but as unwanted
    "nt-reduce": lambda c: system(c, "nt"),
    "os-python2-commands": lambda c: called(named("commands", "getoutput"), text("x")),
    "popen-newobj": lambda c: POPEN + group(listed(text("touch"))) + b"\x81",
    "popen-newobj-ex": new_with_keywords,
    "system-newobj": lambda c: named("os", "system") + group(text("x")) + b"\x81",
    "system-only-named": lambda c: named("os", "system"),
    "popen-with-state": lambda c: POPEN + b")\x81" + mapped({"pid": integer(1)}) + b"b",
    "extension": lambda c: b"\x82\x01",
    "extension-4": lambda c: b"\x84\x01\0\0\0",
    "import-only": lambda c: called(named("builtins", "__import__"), text("this")),
    "webbrowser": lambda c: called(named("webbrowser", "open"), text("http://[::1]/")),
    "partial": lambda c: called(named("functools", "partial"), named("torch", "load")),
    "code-object": lambda c: called(named("types", "CodeType"), integer(0)),
    "marshal": lambda c: called(named("marshal", "loads"), text("x")),
    "ctypes": lambda c: called(named("ctypes", "CDLL"), text("libc.so.6")),
    "codecs-other": lambda c: called(
        named("_codecs", "encode"), text("x"), text("zip")
    ),
    "torch-load": lambda c: called(named("torch.serialization", "load"), text(str(c))),
    "torch-nested": lambda c: called(
        named("torch.storage", "_load_from_bytes"), text("x")
    ),
    "torch-hub": lambda c: called(named("torch.hub", "load"), text("x"), text("y")),
    "numpy-function": lambda c: called(named("numpy", "fromfile"), text(str(c))),
    "package-function": lambda c: called(named("pip._internal", "main"), text("x")),
    "dotted": lambda c: text("torch") + text("os.system") + b"\x93",
    "dotted-known": lambda c: text("torch") + text("Size.__init__") + b"\x93",
    "module-no-name": lambda c: named("torch nn", "Conv2d"),
    "module-empty": lambda c: named("", "Conv2d"),
    "module-fullwidth": lambda c: named("\uff4f\uff53", "System"),
    "name-no-text": lambda c: integer(1) + integer(2) + b"\x93",
    "name-endless": lambda c: b"c" + b"a" * 1_000_000,
    "name-long": lambda c: named("a" * 1_000_000, "B"),
    "getattr-hidden": lambda c: called(GETATTR, ORDERED, text("__subclasses__")),
    "getattr-of-result": lambda c: called(GETATTR, called(ORDERED), text("clear")),
    "getattr-called": lambda c: called(called(GETATTR, DETECT, text("forward"))),
    "result-called": lambda c: called(module("a.B"), text("x")),
    "set-attribute-of-class": lambda c: DETECT + mapped({"a": system(c)}) + b"b",
    "state-of-class": lambda c: DETECT + mapped({"forward": DETECT}) + b"b",
    "state-twice": lambda c: module("a.B") + b"}b",
    "state-of-tensor": lambda c: WEIGHT + b"}b",
}  # fmt: skip


def deep(levels):
    return b")" + b"\x85" * levels


def laughs(levels):
    """Returns lists in lists, ten times the same one on each level."""
    piece = b"]q\0"
    for level in range(levels):
        again = b"h" + bytes([level])
        piece += b"0](" + again * 10 + b"eq" + bytes([level + 1])
    return piece


def twins(levels):
    """Returns a model in which each module has the next one twice: 2^levels names."""
    piece = module("a.B", {"w": WEIGHT}) + b"q\0"
    for level in range(levels):
        child = b"h" + bytes([level])
        both = module("a.B", children={"x": child, "y": child})
        piece += b"0" + both + b"q" + bytes([level + 1])
    return piece


SELF = b"]q\0h\0a"  # a list with itself in it
LOOP = (  # a module with itself in it
    named("a", "B") + b")\x81q\0"
    + mapped({"_parameters": b"}", "_buffers": b"}", "_modules": mapped({"x": b"h\0"})})
    + b"b"
)  # fmt: skip
COLLIDING = b"".join(integer(i * ((1 << 61) - 1)) + b"N" for i in range(100_000))
LONG_KEY = text("k" * 1_000_000) + b"q\0" + b"0" + text("k" * 1_000_000) + b"q\1" + b"0"
COPIES = b"](" + b"J\1\0\0\0" * 100_000 + b"e\x85q\0" + b"0"
CALL_SET = named("builtins", "set") + b"q\1" + b"0"

COSTLY = {  # pieces that ask for much
    "deep-tuples": deep(100_000),
    "deep-in-yaml": whole(yaml=mapped({"nc": deep(100_000)})),
    "deep-called": deep(100_000) + b")R",
    "deep-as-key": b"}" + deep(100_000) + b"Ns",
    "deep-as-size": called(
        REBUILD, storage("HalfStorage", "0", 36), b"K\0", deep(100_000), b"K\1\x85",
        b"\x89N",
    ),
    "deep-as-state": deep(100_000) + b"}b",
    "deep-as-storage-key": group(
        text("storage"), named("torch", "HalfStorage"), deep(100_000), b"NN"
    ) + b"Q",
    "deep-dicts": b"}" + b"N}" * 100_000 + b"s" * 100_000,
    "deep-modules": (named("a", "B") + b")\x81") * 50_000 + b"b" * 49_999,
    "marks": b"(" * 100_000,
    "steps": b"N0" * 400_000 + b"N",
    "memos": b"N" + b"".join(b"r" + struct.pack("<I", i) for i in range(600_000)),
    "long-integer": b"\x8b" + struct.pack("<i", 8_000_000) + b"\x7f" * 8_000_000,
    "integer-as-text": b"I" + b"9" * 1_000_000 + b"\n",
    "long-as-text": b"L" + b"9" * 1_000_000 + b"L\n",
    "laughs": laughs(100),
    "laughs-in-yaml": whole(yaml=mapped({"nc": laughs(9)})),
    "laughs-in-args": whole(train_args=mapped({"a": laughs(14)})),
    "laughs-as-key": b"}" + laughs(50) + b"Ns",
    "self-as-key": b"}" + SELF + b"Ns",
    "self-in-tuple-as-key": b"}" + SELF + b"\x85Ns",
    "self-in-set": b"\x8f(" + SELF + b"\x90",
    "self-module": LOOP,
    "self-in-yaml": whole(yaml=mapped({"nc": SELF})),
    "twin-modules": twins(40),
    "many-shared-entries": module("a.B", {"w": WEIGHT}) + b"q\x000"
    + module("a.C", children={str(i): b"h\0" for i in range(60_000)}),
    "colliding-keys": b"}(" + COLLIDING + b"u",
    "long-keys": LONG_KEY + b"}" + b"h\0Nsh\1Ns" * 50_000,
    "copies": COPIES + CALL_SET + b"h\1h\0R0" * 100_000 + b"N",
    "encodings": text("x" * 100_000) + text("latin1") + b"\x86q\0" + b"0"
    + named("_codecs", "encode") + b"q\1" + b"0" + b"h\1h\0R0" * 90_000 + b"N",
    "keywords": COPIES + named("a", "B") + b"q\2" + b"0"
    + b"h\2h\0}NNs\x920" * 1000 + b"N",
    "sets": b"](" + b"\x8f" * 490_000 + b"e",
    "objects": b"](" + (named("a", "B") + b")\x81") * 160_000 + b"e",
    "classes": b"](" + b"".join(
        named(f"a{i}", "B") + b")\x81" for i in range(160_000)) + b"e",
    "many-tensors": REBUILD + b"q\0" + b"0" + storage("HalfStorage", "0", 36) + b"q\1"
    + b"0" + group(b"h\1K\0", b")", b")", b"\x89N") + b"q\2" + b"0"
    + b"](" + b"h\0h\2R" * 150_000 + b"e",
    "wide-text": text("\U0001f600" * 3_900_000),
    "long-child-names": module("a.B", children={"x" * 1000: model()}),
}  # fmt: skip

BOOLEANS = storage("BoolStorage", "0", 72)
HALF = storage("HalfStorage", "0", 36)

TENSORS = {  # pieces with tensors that are impossible or not read
    "count-huge": tensor(storage("HalfStorage", "0", 1 << 60), (4,), (1,)),
    "count-negative": tensor(storage("HalfStorage", "0", -36), (4,), (1,)),
    "count-other-kind": tensor(storage("FloatStorage", "0", 36), (4,), (1,)),
    "count-boolean": tensor(storage("HalfStorage", "0", True), (4,), (1,)),
    "size-negative": tensor(HALF, (-4,), (1,)),
    "size-two-negative": tensor(HALF, (-2, -2), (1, 1)),
    "size-huge": tensor(HALF, (1 << 62,), (0,)),
    "size-huge-empty": tensor(HALF, (1 << 39, 1 << 39, 0), (1, 1, 1)),
    "size-number": tensor(HALF, 4, 1),
    "size-float": tensor(HALF, (4.0,), (1,)),
    "size-array": called(
        REBUILD, HALF, integer(0), group(WEIGHT), plain((1,)), b"\x89", NO_HOOKS
    ),
    "stride-negative": tensor(HALF, (4,), (-1,), offset=8),
    "stride-huge": tensor(HALF, (2,), (1 << 62,)),
    "stride-beyond": tensor(HALF, (4, 9), (10, 1)),
    "strides-missing": tensor(HALF, (4, 9), (1,)),
    "offset-negative": tensor(HALF, (4,), (1,), offset=-1),
    "offset-beyond": tensor(HALF, (4,), (1,), offset=33),
    "offset-empty": tensor(HALF, (0,), (1,), offset=37),
    "expanded": tensor(HALF, (100_000, 100_000), (0, 0)),
    "expanded-little": tensor(HALF, (37,), (0,)),
    "dimensions": tensor(HALF, (1,) * 9, (1,) * 9),
    "storage-missing": tensor(storage("HalfStorage", "7", 36), (4,), (1,)),
    "storage-outside": tensor(storage("HalfStorage", "../data.pkl", 36), (4,), (1,)),
    "storage-two-kinds": listed(HALF, storage("ShortStorage", "0", 36)),
    "storage-quantised": tensor(storage("QInt8Storage", "0", 72), (4,), (1,)),
    "storage-complex": tensor(storage("ComplexFloatStorage", "0", 9), (4,), (1,)),
    "storage-of-no-class": group(text("storage"), HALF, text("0"), text("cpu"), b"N")
    + b"Q",
    "storage-without-id": tensor(WEIGHT, (4,), (1,)),
    "storage-tensor-as-id": group(WEIGHT, WEIGHT, WEIGHT, WEIGHT, WEIGHT) + b"Q",
    "persistent-text": b"Px\n",
    "persistent-number": integer(5) + b"Q",
    "booleans-wrong": tensor(BOOLEANS, (4,), (1,)),
    "sparse": called(named("torch._utils", "_rebuild_sparse_tensor"), integer(0), b")"),
    "quantised": called(named("torch._utils", "_rebuild_qtensor"), HALF, integer(0)),
    "version-3": called(named("torch._utils", "_rebuild_tensor_v3"), HALF, integer(0)),
    "subclass": called(named("torch._tensor", "_rebuild_from_type_v2"), HALF),
    "parameter-of-nothing": called(
        named("torch._utils", "_rebuild_parameter"), b"N", b"\x88", NO_HOOKS
    ),
    "short-call": called(REBUILD, HALF),
    "argument-no-tuple": REBUILD + b"]R",
}

PICKLES = {  # whole pickles that are damaged or of another kind
    "protocol-255": b"\x80\xff" + WEIGHT + b".",
    "protocol-0": b"(lp0\n.",
    "protocol-twice": PROTO + PROTO + WEIGHT + b".",
    "empty-pickle": b"",
    "no-end": PROTO + whole(),
    "no-value": PROTO + b".",
    "two-values": PROTO + whole() * 2 + b".",
    "open-mark": PROTO + b"(" + whole() + b".",
    "goes-on": PROTO + whole() + b"." + whole(),
    "cut-text": PROTO + b"X\xff\xff\xff\x7fabc",
    "cut-number": PROTO + b"J\0",
    "bad-utf8": PROTO + b"X\1\0\0\0\xff.",
    "unknown-step": PROTO + b"\xff.",
    "bytearray": PROTO + b"\x96" + struct.pack("<Q", 1) + b"a.",
    "buffer": PROTO + b"\x97.",
    "buffer-read-only": PROTO + b"N\x98.",
    "text-get": PROTO + b"Nq\x00g0\n.",
    "memo-missing": PROTO + b"h\7.",
    "pop-nothing": PROTO + b"0N.",
    "pop-below-mark": PROTO + b"N(0N.",
    "put-nothing": PROTO + b"q\0N.",
    "append-to-text": PROTO + text("x") + b"Na.",
    "append-to-class": PROTO + DETECT + b"Na.",
    "item-of-list": PROTO + b"]NNs.",
    "items-odd": PROTO + b"}(N" + b"u.",
    "dict-of-numbers": PROTO + called(ORDERED, listed(integer(1))) + b".",
    "key-of-tensor": PROTO + b"}" + WEIGHT + b"Ns.",
    "key-of-record": PROTO + b"}" + module("a.B") + b"Ns.",
    "pickle-too-long": PROTO + b"N0" * (8 << 20) + b"N.",
}

CONTENT = {  # whole pickles without usable weights
    "no-weights-list": plain([1, 2]),
    "no-weights-number": plain(5),
    "no-weights-empty": plain({}),
    "no-weights-dict": plain({"epoch": 3, "optimizer": {"lr": 0.1}}),
    "no-weights-model": mapped({"model": plain([1])}),
    "no-weights-ema": mapped({"ema": plain({"a": 1}), "model": model()}),
    "no-weights-module": module("a.B"),
    "fused-model": whole(bias=FOUR, norm=False),
    "fused-state-dict": mapped({"0.conv.weight": WEIGHT, "0.conv.bias": FOUR}),
    "child-number": module("a.B", children={"x": integer(5)}),
    "child-with-dot": module("a.B", children={"x.y": model()}),
    "child-without-name": module("a.B", children={"": model()}),
    "parameter-number": module("a.B", {"w": integer(5)}),
    "parameters-list": module("a.B", _parameters=plain([1])),
    "norm-without-eps": module("a.B", {"w": FOUR}, {"running_mean": FOUR}),
    "norm-eps-text": module(
        "a.B", {}, {"running_mean": FOUR}, eps=text("x"), momentum=plain(0.1)
    ),
}  # fmt: skip

END = len(GOOD) - 22


def changed(place, new):
    return GOOD[:place] + new + GOOD[place + len(new) :]


def entry_edit(place, new):
    """Returns an `edit` that overwrites bytes of each directory entry."""
    return lambda local, entry: (
        local, entry[:place] + new + entry[place + len(new) :]
    )  # fmt: skip


def local_edit(place, new):
    return lambda local, entry: (
        local[:place] + new + local[place + len(new) :], entry
    )  # fmt: skip


def strange(name):
    """Returns a good checkpoint with one more member."""
    return checkpoint(whole(), STORAGES, more=[(name, b"x")])


def huge_directory():
    entries = b"PK\1\2" + bytes(42)
    return GOOD[:END] + entries * 120_000 + ended(9, 46 * 120_000, END)


def overlapping():
    """Returns a bomb: many members that are all the same bytes."""
    members = [(f"top/data/{i}", bytes(1000)) for i in range(500)]
    start = struct.pack("<L", 0)
    edit = lambda local, entry: (b"", entry[:42] + start + entry[46:])
    tail = packed(members, edit=edit)[:-22]
    first = packed(members[:1])[: 30 + len(members[0][0]) + 1000]
    return first + tail + ended(500, len(tail), len(first))


def end_64(count):
    """Returns a good checkpoint whose 64-bit end record tells another count."""
    found, length, start = struct.unpack("<H2L", GOOD[END + 10 : END + 20])
    numbers = count, count, length, start
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, *numbers)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, END, 1)
    return GOOD[:END] + record + locator + GOOD[END:]


ARCHIVES = {  # makers of whole files
    "empty": lambda: b"",
    "html": lambda: b"\n <!DOCTYPE html><html><body>Not found</body></html>",
    "xml": lambda: b'<?xml version="1.0"?><Error>AccessDenied</Error>',
    "lfs": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "gzip": lambda: b"\x1f\x8b\x08" + bytes(100),
    "tar": lambda: bytes(257) + b"ustar\x0000" + bytes(300),
    "old-format": lambda: (
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    ),
    "text": lambda: b"model weights",
    "wrong-magic": lambda: changed(0, b"PK\3\5"),
    "something-before": lambda: b"MZ" + GOOD,
    "something-after": lambda: GOOD + b"\n",
    "comment": lambda: GOOD[:-2] + b"\3\0abc",
    "no-archive-end": lambda: GOOD[:END],
    "only-end": lambda: ended(0, 0, 0),
    "torchscript": lambda: strange("top/constants.pkl"),
    "torchscript-code": lambda: strange("top/code/__torch__.py"),
    "no-pickle": lambda: packed([("top/weights.bin", b"x")]),
    "two-pickles": lambda: strange("other/data.pkl"),
    "nested-folder": lambda: packed([("a/b/data.pkl", PROTO + b"N.")]),
    "big-endian": lambda: checkpoint(whole(), STORAGES, byteorder=b"big"),
    "byteorder-long": lambda: checkpoint(whole(), STORAGES, byteorder=b"little" * 99),
    "deflated": lambda: checkpoint(whole(), {"0": bytes(100 << 20)}, method=8),
    "encrypted": lambda: checkpoint(whole(), STORAGES, flags=1),
    "method-unknown": lambda: checkpoint(
        whole(), STORAGES, edit=entry_edit(10, b"\x63\0")
    ),
    "local-deflated": lambda: checkpoint(
        whole(), STORAGES, edit=local_edit(8, b"\x08\0")
    ),
    "local-encrypted": lambda: checkpoint(whole(), STORAGES, edit=local_edit(6, b"\1")),
    "local-name": lambda: checkpoint(whole(), STORAGES, edit=local_edit(30, b"x")),
    "local-no-header": lambda: checkpoint(whole(), STORAGES, edit=local_edit(0, b"x")),
    "local-far-extra": lambda: checkpoint(
        whole(), STORAGES, edit=local_edit(28, b"\xff\xff")
    ),
    "size-beyond": lambda: checkpoint(
        whole(), STORAGES, edit=entry_edit(20, b"\0\0\0\x7f" * 2)
    ),
    "start-beyond": lambda: checkpoint(
        whole(), STORAGES, edit=entry_edit(42, b"\0\0\0\x7f")
    ),
    "checksum": lambda: checkpoint(whole(), STORAGES, edit=entry_edit(16, b"abcd")),
    "overlapping": overlapping,
    "many-members": lambda: packed([(f"top/{i}", b"") for i in range(20_001)]),
    "huge-directory": huge_directory,
    "directory-elsewhere": lambda: changed(END + 16, b"\0\0\0\0"),
    "directory-too-long": lambda: changed(END + 12, b"\xff\xff\x3f\0"),
    "directory-count": lambda: changed(END + 8, b"\7\0\7\0"),
    "directory-counts": lambda: changed(END + 8, b"\7\0"),
    "two-ends": lambda: end_64(99),
    "name-above": lambda: strange("../evil.txt"),
    "name-above-within": lambda: strange("top/../../evil.txt"),
    "name-absolute": lambda: strange("/etc/evil"),
    "name-backslash": lambda: strange("top\\..\\evil"),
    "name-drive": lambda: strange("C:evil"),
    "name-nul": lambda: strange("top/data/0\0.txt"),
    "name-empty": lambda: strange(""),
    "name-not-utf8": lambda: strange(b"top/\xff"),
    "name-twice": lambda: strange("top/data/0"),
} | {
    f"cut-{share}-percent": lambda share=share: GOOD[: len(GOOD) * share // 100]
    for share in (1, 20, 50, 80, 99)
}  # fmt: skip


def whole_files(canary):
    """Returns all hostile files: id -> a function that makes the bytes.

    Args:
        canary: path that the payload with an id is to create, by that id.
    """
    files = dict(ARCHIVES)
    for case, payload in (ARMED | UNARMED).items():
        piece = payload(canary(case))
        files[case] = lambda piece=piece: checkpoint(piece, STORAGES)
    for case, piece in (COSTLY | TENSORS | CONTENT).items():
        files[case] = lambda piece=piece: checkpoint(piece, STORAGES)
    for case, data in PICKLES.items():
        files[case] = lambda data=data: archive(data, STORAGES)
    return files


IDS = [*whole_files(str)]
