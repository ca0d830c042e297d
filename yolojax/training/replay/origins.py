"""Where values stop being finite: a program done operation by operation.

Whatever is not finite without need is no fault: a masked logarithm of zero, the minus
infinity that a maximum starts from. So every bad value carries the operations that it
comes from, and those of the result are the answer.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core, source_info_util

_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # of primitives that only call
_AGAIN = ("checkpoint", "rematted_computation")  # scopes of what is computed again
_NOWHERE: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class Origin:
    """An operation that makes bad values out of good ones."""

    operation: str
    layer: str  # path of the module, "" outside of any
    code: str  # file:line (function)
    dtype: str
    shape: tuple[int, ...]
    index: tuple[int, ...]  # of the first bad value
    value: float  # it
    bad: int  # how many there are
    inputs: tuple[str, ...]  # the ranges of its operands, in words


class Walk:
    """An interpreter of programs that notes the operations bad values come from."""

    def __init__(self) -> None:
        """Starts with none."""
        self.origins: list[Origin] = []

    def closed(
        self,
        program: Any,
        values: Sequence[Any],
        marks: Sequence[frozenset[int]],
        at: str,
    ) -> tuple[list[Any], list[frozenset[int]]]:
        """Returns what a program gives, and for each value the origins of what is bad.

        Args:
            program: with its constants.
            values: its arguments.
            marks: origins of what is bad in them.
            at: scopes around it, joined by "/".
        """
        known: dict[Any, tuple[Any, frozenset[int]]] = {}

        def read(atom: Any) -> tuple[Any, frozenset[int]]:
            if isinstance(atom, core.Literal):
                return atom.val, _NOWHERE
            return known[atom]

        jaxpr = program.jaxpr
        pairs = [(value, _NOWHERE) for value in program.consts]
        known.update(zip(jaxpr.constvars, pairs, strict=True))
        known.update(zip(jaxpr.invars, zip(values, marks, strict=True), strict=True))
        last = _last_uses(jaxpr)
        for number, eqn in enumerate(jaxpr.eqns):
            found = self._one(eqn, [read(atom) for atom in eqn.invars], at)
            for variable, pair in zip(eqn.outvars, found, strict=True):
                known[variable] = pair
            for variable in last.get(number, ()):  # their memory is needed no more
                known.pop(variable, None)
        out = [read(atom) for atom in jaxpr.outvars]
        return [value for value, _ in out], [mark for _, mark in out]

    def _one(
        self, eqn: Any, given: list[tuple[Any, frozenset[int]]], at: str
    ) -> list[tuple[Any, frozenset[int]]]:
        """Returns the values of one operation, with their origins."""
        values = [value for value, _ in given]
        bound = eqn.primitive.get_bind_params(eqn.params)
        # Some versions of JAX give functions as well.
        functions, parameters = bound if isinstance(bound, tuple) else ((), bound)
        with eqn.ctx.manager:
            found = eqn.primitive.bind(*functions, *values, **parameters)
        found = list(found) if eqn.primitive.multiple_results else [found]
        if all(map(_is_finite, found)):
            return [(value, _NOWHERE) for value in found]
        scopes = "/".join(filter(None, (at, str(eqn.source_info.name_stack))))
        inner = self._inside(eqn, given, scopes)
        if inner is not None:
            return [
                (v, m if not _is_finite(v) else _NOWHERE)
                for v, m in zip(*inner, strict=True)
            ]
        bad = [mark for value, mark in given if not _is_finite(value)]
        marks = _NOWHERE.union(*bad)
        if not bad:
            marks = frozenset((len(self.origins),))
            self.origins.append(_origin(eqn, values, found, scopes))
        return [(v, _NOWHERE if _is_finite(v) else marks) for v in found]

    def _inside(
        self, eqn: Any, given: list[tuple[Any, frozenset[int]]], at: str
    ) -> tuple[list[Any], list[frozenset[int]]] | None:
        """Returns what is found inside of an operation that is a program of its own."""
        values = [value for value, _ in given]
        marks = [mark for _, mark in given]
        name, parameters = eqn.primitive.name, eqn.params
        if name == "cond":
            branches = parameters["branches"]
            chosen = int(np.clip(int(values[0]), 0, len(branches) - 1))
            return self.closed(branches[chosen], values[1:], marks[1:], at)
        if name == "scan":
            return self._scan(parameters, values, marks, at)
        if name == "while":
            return self._while(parameters, values, marks, at)
        inner = next((parameters[k] for k in _INNER if k in parameters), None)
        if inner is None:
            return None
        if not hasattr(inner, "consts"):
            inner = core.ClosedJaxpr(inner, ())
        if len(inner.jaxpr.invars) != len(values):
            return None
        return self.closed(inner, values, marks, at)

    def _scan(
        self, parameters: Any, values: list[Any], marks: list[frozenset[int]], at: str
    ) -> tuple[list[Any], list[frozenset[int]]]:
        """Does the turns of a scan one by one."""
        body, length = parameters["jaxpr"], parameters["length"]
        consts, carried = parameters["num_consts"], parameters["num_carry"]
        start = consts + carried
        state, states = values[consts:start], marks[consts:start]
        turns = range(length)
        rows: dict[int, list[Any]] = {}
        told: list[frozenset[int]] = []
        for k in reversed(turns) if parameters["reverse"] else turns:
            taken = [x[k] for x in values[start:]]
            out, found = self.closed(
                body,
                [*values[:consts], *state, *taken],
                [*marks[:consts], *states, *marks[start:]],
                at,
            )
            state, states = out[:carried], found[:carried]
            rows[k] = out[carried:]
            told = [
                a | b
                for a, b in zip(
                    told or [_NOWHERE] * len(rows[k]), found[carried:], strict=True
                )
            ]
        stacked = [jnp.stack([rows[k][i] for k in turns]) for i in range(len(told))]
        return [*state, *stacked], [*states, *told]

    def _while(
        self, parameters: Any, values: list[Any], marks: list[frozenset[int]], at: str
    ) -> tuple[list[Any], list[frozenset[int]]]:
        """Does the turns of a while loop one by one."""
        tested, done = parameters["cond_nconsts"], parameters["body_nconsts"]
        start = tested + done
        state, states = values[start:], marks[start:]
        nothing = [_NOWHERE] * (tested + len(state))
        while True:
            test = [*values[:tested], *state]
            (goes_on,), _ = self.closed(parameters["cond_jaxpr"], test, nothing, at)
            if not bool(np.all(goes_on)):
                return state, states
            state, states = self.closed(
                parameters["body_jaxpr"],
                [*values[tested:start], *state],
                [*marks[tested:start], *states],
                at,
            )


def origins_of(
    function: Callable[..., dict[str, Any]], *arguments: Any
) -> dict[str, list[Origin]]:
    """Returns where the results of a function stop being finite, by their names.

    Args:
        function: gives trees of arrays by name.
        arguments: trees of arrays.

    Returns:
        For every result that is not finite the operations that it comes from, in the
        order in which they are done.
    """
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    leaves = jax.tree.leaves(arguments)
    walk = Walk()
    values, marks = walk.closed(program, leaves, [_NOWHERE] * len(leaves), "")
    found, position = {}, 0
    for name, tree in shapes.items():
        count = len(jax.tree.leaves(tree))
        part = slice(position, position + count)
        position += count
        if not all(map(_is_finite, values[part])):
            numbers = sorted(_NOWHERE.union(*marks[part]))
            found[name] = [walk.origins[k] for k in numbers]
    return found


def layer_of(scopes: str) -> str:
    """Returns the path of the module that scopes name, "" outside of any.

    The name of the network itself, and what differentiated or mapped it, go.
    """
    plain = re.sub(r"\w+\(|\)", "", scopes)
    _, _, path = plain.partition("/")
    return "/".join(part for part in path.split("/") if part and part not in _AGAIN)


def _is_finite(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return bool(np.isfinite(value)) if isinstance(value, float) else True
    if not jnp.issubdtype(dtype, jnp.inexact):
        return True
    return bool(_all_finite(value))


@jax.jit
def _all_finite(value: Any) -> jax.Array:
    return jnp.isfinite(value).all()


def _last_uses(jaxpr: Any) -> dict[int, list[Any]]:
    """Returns the variables that no operation after the n-th one needs, by n."""
    last: dict[Any, int] = {}
    for number, eqn in enumerate(jaxpr.eqns):
        for atom in (*eqn.invars, *eqn.outvars):
            if not isinstance(atom, core.Literal):
                last[atom] = number
    for atom in jaxpr.outvars:
        if not isinstance(atom, core.Literal):
            last.pop(atom, None)
    found: dict[int, list[Any]] = {}
    for variable, number in last.items():
        found.setdefault(number, []).append(variable)
    return found


def _origin(eqn: Any, values: list[Any], found: list[Any], scopes: str) -> Origin:
    """Returns what is to be said of an operation that makes bad values."""
    result = np.asarray(next(v for v in found if not _is_finite(v)))
    wrong = ~np.isfinite(result.astype(float))
    index = tuple(int(i) for i in np.unravel_index(wrong.argmax(), result.shape))
    return Origin(
        operation=eqn.primitive.name,
        layer=layer_of(scopes),
        code=_code(source_info_util.summarize(eqn.source_info)),
        dtype=str(result.dtype),
        shape=result.shape,
        index=index,
        value=float(result[index]),
        bad=int(wrong.sum()),
        inputs=tuple(map(_range, values)),
    )


def _range(value: Any) -> str:
    """Returns type, shape and range of an operand in words."""
    array = np.asarray(value)
    text = f"{array.dtype}[{','.join(map(str, array.shape))}]"
    if not array.size:
        return text
    low, high = (float(x) for x in (array.min(), array.max()))
    return f"{text} {low:.4g}" + (f" to {high:.4g}" if low != high else "")


def _code(text: str) -> str:
    """Returns where code is, with no more of its path than tells it."""
    found = re.match(r"(.*?):(\d+)(?::\d+)?(?: \((.*)\))?$", text)
    if not found:
        return text
    parts = Path(found[1]).parts
    if "site-packages" in parts:
        parts = parts[parts.index("site-packages") + 1 :]
    elif "yolojax" in parts:
        parts = parts[len(parts) - parts[::-1].index("yolojax") - 1 :]
    else:
        parts = parts[-1:]
    function = f" ({found[3]})" if found[3] else ""
    return f"{'/'.join(parts)}:{found[2]}{function}"
