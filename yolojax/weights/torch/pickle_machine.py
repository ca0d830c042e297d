"""A pickle reader that runs nothing: what is not plain data becomes inert.

A pickle is a program for a small stack machine, and its makers may name any function to
be called. The machine here has no way to call one: whoever uses it lists the names that
it carries out itself, and says which other names are refused. All other named classes,
and objects made from them, become an `Inert`: a note of what the file wanted.

Only the steps that pickle protocols 2 to 5 write are known. A file may combine them as
it likes, so time and memory are bounded by the limits below.
"""

import io
import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# A finished checkpoint of scale n takes 59 000 steps (144 kB). More layers take
# more, scale x twice as many; so does the state of an optimiser.
MAX_STEPS = 400_000
MAX_MARKS = 1000  # containers begun and not ended
MAX_WORK = 1_000_000  # elements or bytes copied, see `Machine.spend`
MAX_INT = 64  # bytes of one integer
MAX_KEY = 1024  # characters of a dict key
MAX_KEY_PARTS = 8  # of a tuple as dict key
RARE = 1000  # work for a new name and for a dict key of a rare kind

REFUSED = "which no weights file needs. Do not use this file."
DAMAGED = "The file is damaged; download it again."

PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # protocol 2 says these
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
MAX_NAME = 200  # characters


@dataclass(eq=False, repr=False, slots=True)
class Inert:
    """An object of the file that was not made: what it would have been made from."""

    kind: str  # "module.Class"
    args: tuple  # its arguments
    state: Any = None  # what its attributes were to become, most often a dict
    items: list = field(default_factory=list)  # of a container; pairs if of a dict

    def __repr__(self) -> str:
        """Returns the kind only: state may be deep and may contain itself."""
        return f"Inert({self.kind!r})"


class Named(Inert):
    """A class or function that the file only names."""

    __slots__ = ()


Call = Callable[["Machine", tuple], Any]
Step = Callable[["Machine", Any], None]
Reader = Callable[[io.BytesIO], Any]


class Machine:
    """Interprets one pickle: values, marks where containers begin, and a memo."""

    def __init__(
        self,
        check_name: Callable[[str], None],
        calls: Mapping[str, Call],
        persistent: Callable[[Any], Any],
    ):
        """Takes what the pickle may do beyond plain data.

        Args:
            check_name: raises ValueError if "module.name" must not even be named.
            calls: "module.name" to the function that is carried out for a call of it,
                given this machine and the arguments in the file.
            persistent: the value that a persistent id stands for.
        """
        self.check_name = check_name
        self.calls = calls
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Named] = {}
        self.work = 0

    def run(self, data: bytes) -> Any:
        """Returns what the pickle describes; raises ValueError."""
        if data[:1] != b"\x80" or not 2 <= int.from_bytes(data[1:2], "little") <= 5:
            raise ValueError(
                f"its pickle begins with {data[:2]!r}, not with a protocol from 2 to 5."
                " Save it again with torch.save of PyTorch 1.6 or later."
            )
        stream = io.BytesIO(data)
        stream.seek(2)
        for _ in range(MAX_STEPS):
            code = stream.read(1)
            if code == b".":
                return self._result(len(data) - stream.tell())
            if code not in STEPS:
                _refuse_step(code, stream.tell() - 1)
            read, step = STEPS[code]
            try:
                argument = read(stream)
            except ValueError as error:  # UnicodeDecodeError is one
                raise ValueError(
                    f"its pickle cannot be read at byte {stream.tell()}: {error}."
                    f" {DAMAGED}"
                ) from error
            step(self, argument)
        raise ValueError(f"its pickle has more than {MAX_STEPS} steps, the limit.")

    def _result(self, left: int) -> Any:
        if left or self.marks or len(self.stack) != 1:
            raise ValueError(f"its pickle does not end where it should. {DAMAGED}")
        return self.stack[0]

    def spend(self, work: int) -> None:
        """Counts work that a file could ask for again and again in few steps."""
        self.work += work
        if self.work > MAX_WORK:
            raise ValueError("its pickle copies more than any weights file needs.")

    def push(self, value: Any) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)

    def top(self) -> Any:
        """Returns the uppermost value, never one from before the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError(f"its pickle takes a value that is not there. {DAMAGED}")
        return self.stack[-1]

    def pop(self) -> Any:
        """Takes the uppermost value."""
        self.top()
        return self.stack.pop()

    def pop_marked(self) -> list[Any]:
        """Takes all values above the last mark, and the mark."""
        if not self.marks:
            raise ValueError(f"its pickle ends what it never began. {DAMAGED}")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def key(self, value: Any) -> Any:
        """Returns a dict key or set element; refuses what may be slow to hash.

        Text is hashed with a secret and a small integer is its own hash. Other values
        can be chosen so that they all collide; rare in weights files, they cost work.
        """
        kind = type(value)
        if value is None or kind is bool or (kind is str and len(value) <= MAX_KEY):
            return value
        if kind is int and -(1 << 31) < value < 1 << 31:
            return value
        self.spend(RARE)
        parts = value if kind is tuple else (value,)
        if len(parts) > MAX_KEY_PARTS or not all(map(_is_simple, parts)):
            raise ValueError(
                f"its pickle has {show(value)} as a dict key or set element; allowed"
                f" are numbers, short text and short flat tuples. {DAMAGED}"
            )
        return value

    def name(self, module: Any, name: Any) -> Named:
        """Returns a named class or function, if it may be named."""
        if type(module) is not str or type(name) is not str:
            raise ValueError(f"its pickle has a name that is no text. {DAMAGED}")
        module = PYTHON_2.get(module, module)
        plain = MODULE.fullmatch(module) and NAME.fullmatch(name)
        if not plain or max(len(module), len(name)) > MAX_NAME:
            raise ValueError(
                f"asks for the name {show(name)} of module {show(module)}, {REFUSED}"
            )
        kind = f"{module}.{name}"
        if kind not in self.names:
            self.spend(RARE)
            self.check_name(kind)
            self.names[kind] = Named(kind, ())
        return self.names[kind]

    def call(self, function: Any, args: Any) -> Any:
        """Returns what the listed calls give, for others a record of the call."""
        if type(args) is not tuple:
            raise ValueError(f"its pickle calls with {show(args)}. {DAMAGED}")
        if type(function) is not Named:
            raise ValueError(f"asks to run {show(function)}, {REFUSED}")
        if function.kind in self.calls:
            return self.calls[function.kind](self, args)
        return Inert(function.kind, args)


def _is_simple(value: Any) -> bool:
    """Tells whether a value is cheap to hash and to compare."""
    if type(value) in (str, bytes):
        return len(value) <= MAX_KEY
    return value is None or type(value) in (bool, int, float)


def show(value: Any) -> str:
    """Returns a short text for any value; `repr` of a hostile one might not end."""
    if type(value) is str:
        return ascii(value[:80])
    if type(value) is int and value.bit_length() <= 128:
        return str(value)
    if isinstance(value, Inert):
        return value.kind
    return f"a {type(value).__name__}"


def _refuse_step(code: bytes, position: int) -> None:
    if not code:
        raise ValueError(f"its pickle is cut off. {DAMAGED}")
    names = [op.name for op in pickletools.opcodes if op.code.encode("latin-1") == code]
    raise ValueError(
        f"its pickle has the step {names[0] if names else code!r} at byte {position},"
        " which PyTorch does not write. Do not use this file."
    )


# The steps. Each gets the machine and the argument that stood behind its code.


def _value(value: Any) -> Step:
    return lambda machine, _: machine.push(value)


def _mark(machine: Machine, _: Any) -> None:
    if len(machine.marks) >= MAX_MARKS:
        raise ValueError(f"its pickle is nested deeper than {MAX_MARKS}, the limit.")
    machine.marks.append(len(machine.stack))


def _drop(machine: Machine, _: Any) -> None:
    machine.pop()


def _drop_marked(machine: Machine, _: Any) -> None:
    machine.pop_marked()


def _integer(machine: Machine, value: int) -> None:
    if value.bit_length() > 8 * MAX_INT:
        raise ValueError(f"its pickle has an integer of more than {MAX_INT} bytes.")
    machine.push(value)


def _put(machine: Machine, index: int) -> None:
    machine.memo[index] = machine.top()


def _get(machine: Machine, index: int) -> None:
    if index not in machine.memo:
        raise ValueError(f"its pickle lacks the value {index} it refers to. {DAMAGED}")
    machine.push(machine.memo[index])


def _tuple(length: int) -> Step:
    def step(machine: Machine, _: Any) -> None:
        values = [machine.pop() for _ in range(length)]
        machine.push(tuple(reversed(values)))

    return step


def _extend(machine: Machine, values: list[Any]) -> None:
    target = machine.top()
    if type(target) is list:
        target.extend(values)
    elif type(target) is set:
        target.update([machine.key(value) for value in values])
    elif type(target) is Inert:
        target.items.extend(values)
    else:
        raise ValueError(f"its pickle adds elements to {show(target)}. {DAMAGED}")


def _set_items(machine: Machine, values: list[Any]) -> None:
    target = machine.top()
    if len(values) % 2:
        raise ValueError(f"its pickle has a dict key without a value. {DAMAGED}")
    pairs = zip(values[::2], values[1::2], strict=True)
    if type(target) is dict:
        target.update([(machine.key(key), value) for key, value in pairs])
    elif type(target) is Inert:
        target.items.extend(pairs)
    else:
        raise ValueError(f"its pickle sets items of {show(target)}. {DAMAGED}")


def _append(machine: Machine, _: Any) -> None:
    _extend(machine, [machine.pop()])


def _set_item(machine: Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _stack_global(machine: Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(machine.name(module, name))


def _reduce(machine: Machine, _: Any) -> None:
    args, function = machine.pop(), machine.pop()
    machine.push(machine.call(function, args))


def _new_with_keywords(machine: Machine, _: Any) -> None:
    keywords, args, function = machine.pop(), machine.pop(), machine.pop()
    if type(keywords) is not dict or type(args) is not tuple:
        raise ValueError(f"its pickle calls with {show(keywords)}. {DAMAGED}")
    machine.spend(len(args))
    machine.push(machine.call(function, (*args, keywords) if keywords else args))


def _build(machine: Machine, _: Any) -> None:
    state, target = machine.pop(), machine.top()
    if type(target) is Inert and target.state is None:
        target.state = state
    elif type(target) is not dict:  # attributes of an OrderedDict mean nothing here
        raise ValueError(f"asks to set attributes of {show(target)}, {REFUSED}")


def _no_argument(_: io.BytesIO) -> None:
    return None


def _two_lines(stream: io.BytesIO) -> tuple[str, str]:
    """Reads a module and a name; the standard reader would undo escapes in them."""
    lines = stream.readline(), stream.readline()
    if not all(line.endswith(b"\n") for line in lines):
        raise ValueError("a name has no end")
    return lines[0][:-1].decode("utf-8"), lines[1][:-1].decode("utf-8")


_STEPS_BY_NAME: dict[str, Step] = {
    "NONE": _value(None),
    "NEWTRUE": _value(True),
    "NEWFALSE": _value(False),
    "EMPTY_TUPLE": _value(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    **dict.fromkeys(["BININT", "BININT1", "BININT2", "LONG1", "LONG4"], _integer),
    **dict.fromkeys(
        "BINFLOAT SHORT_BINSTRING BINSTRING SHORT_BINUNICODE BINUNICODE BINUNICODE8"
        " SHORT_BINBYTES BINBYTES BINBYTES8".split(),
        Machine.push,
    ),
    "FRAME": lambda machine, _: None,  # says how much to read ahead
    "MARK": _mark,
    "POP": _drop,
    "POP_MARK": _drop_marked,
    "DUP": lambda machine, _: machine.push(machine.top()),
    **dict.fromkeys(["BINPUT", "LONG_BINPUT"], _put),
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    **dict.fromkeys(["BINGET", "LONG_BINGET"], _get),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_marked())),
    **{f"TUPLE{length}": _tuple(length) for length in (1, 2, 3)},
    "FROZENSET": lambda machine, _: machine.push(
        {machine.key(value) for value in machine.pop_marked()}
    ),
    "APPEND": _append,
    **dict.fromkeys(
        ["APPENDS", "ADDITEMS"],
        lambda machine, _: _extend(machine, machine.pop_marked()),
    ),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_marked()),
    "GLOBAL": lambda machine, names: machine.push(machine.name(*names)),
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(["REDUCE", "NEWOBJ"], _reduce),
    "NEWOBJ_EX": _new_with_keywords,
    "BUILD": _build,
    "BINPERSID": lambda machine, _: machine.push(machine.persistent(machine.pop())),
}

STEPS: dict[bytes, tuple[Reader, Step]] = {
    op.code.encode("latin-1"): (
        op.arg.reader if op.arg and op.name != "GLOBAL" else _no_argument,
        _STEPS_BY_NAME[op.name],
    )
    for op in pickletools.opcodes
    if op.name in _STEPS_BY_NAME
} | {b"c": (_two_lines, _STEPS_BY_NAME["GLOBAL"])}
