"""The indexes that a traced program reads arrays at, as far as the data fix them.

JAX clamps indexes that are out of range, so a program that reads `z[9]` of four entries gets the
last one, and `z[-1]` too. Here the index operands of a jaxpr are computed from its constants, which
hold the data, and compared with the sizes that they index. In the body of a scan they are computed
for all its steps at once, as far as they do not depend on what the scan carries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.extend.core import Literal as Number

Kind = Literal["clamped", "dropped", "negative", "one-hot"]

# index operands above this size are not looked at
LARGEST = 10**7

UNKNOWN = object()
"""The value of what depends on random draws."""


@dataclasses.dataclass(frozen=True)
class BadIndex:
    """Indexes out of range of one array.

    Attributes:
        kind: what JAX does with them: it clamps them, drops them (or fills in), counts negative
            ones from the end, or encodes them as zeros.
        size: the size of the axis.
        values: the distinct indexes that are out of range.
    """

    kind: Kind
    size: int
    values: tuple[int, ...]


def bad_indexes(traced: ClosedJaxpr) -> list[BadIndex]:
    """Return the indexes out of range in a traced function, as far as its constants fix them."""
    known = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    return list(dict.fromkeys(_search(traced.jaxpr, _Values(known))))


@dataclasses.dataclass(frozen=True)
class _Steps:
    """The values of a variable at each step of a scan, along the first axis."""

    array: Any


class _Values:
    """The values of a jaxpr's variables, computed where they are asked for."""

    def __init__(self, known: dict) -> None:
        self.found, self.makers = known, {}

    def __call__(self, atom: object) -> Any:
        """Return a variable's value, or `UNKNOWN`."""
        if isinstance(atom, Number):
            return atom.val
        if atom not in self.found:
            make = self.makers.get(atom)
            # nothing is asked for twice
            self.found[atom] = UNKNOWN if make is None else make()
        return self.found[atom]


def _search(jaxpr: Jaxpr, values: _Values) -> Iterator[BadIndex]:
    for equation in jaxpr.eqns:
        inner = _inner(equation)
        if inner is not None:
            given = [_Later(values, atom) for atom in equation.invars]
            inside = _Values(dict(zip(inner.jaxpr.constvars, inner.consts, strict=True)))
            inside.makers = dict(zip(inner.jaxpr.invars, given, strict=True))
            yield from _search(inner.jaxpr, inside)
            for out, result in zip(equation.outvars, inner.jaxpr.outvars, strict=True):
                values.makers[out] = _Later(inside, result)
            if equation.params.get("name") == "_one_hot":
                yield from _one_hot(equation, values)
            continue
        if equation.primitive.name == "scan":
            yield from _search_body(equation, values)
        for position, out in enumerate(equation.outvars):
            values.makers[out] = _Computed(values, equation, position)
        yield from _looked_at(equation, values)


def _search_body(equation: JaxprEqn, values: _Values) -> Iterator[BadIndex]:
    """Yield the bad indexes in the body of a scan, at any of its steps."""
    body, consts = equation.params["jaxpr"], equation.params["num_consts"]
    first = consts + equation.params["num_carry"]
    inside = _Values(dict(zip(body.jaxpr.constvars, body.consts, strict=True)))
    for place, (inner, outer) in enumerate(zip(body.jaxpr.invars, equation.invars, strict=True)):
        # what is carried depends on the steps before
        if place < consts:
            inside.makers[inner] = _Later(values, outer)
        elif place >= first:
            inside.makers[inner] = _OfSteps(values, outer)
    yield from _search(body.jaxpr, inside)


@dataclasses.dataclass(frozen=True)
class _OfSteps:
    """The values at each step of a scan of what it scans over."""

    values: _Values
    atom: Any

    def __call__(self) -> Any:
        value = self.values(self.atom)
        # steps of a scan within another one are not told apart
        return UNKNOWN if value is UNKNOWN or isinstance(value, _Steps) else _Steps(value)


@dataclasses.dataclass(frozen=True)
class _Later:
    """The value of a variable of another jaxpr."""

    values: _Values
    atom: Any

    def __call__(self) -> Any:
        return self.values(self.atom)


@dataclasses.dataclass(frozen=True)
class _Computed:
    """The value that an equation of known inputs gives."""

    values: _Values
    equation: Any
    position: int

    def __call__(self) -> Any:
        equation = self.equation
        if any(out.aval.size > LARGEST for out in equation.outvars) or equation.effects:
            return UNKNOWN
        given = [self.values(atom) for atom in equation.invars]
        if any(value is UNKNOWN for value in given) or _has_jaxpr(equation):
            return UNKNOWN
        steps = [isinstance(value, _Steps) for value in given]
        arrays = [jnp.asarray(_array(value)) for value in given]
        with jax.ensure_compile_time_eval():
            if not any(steps):
                return self._one(equation.primitive.bind(*arrays, **equation.params))

            def at_step(*inputs: jax.Array) -> Any:
                return equation.primitive.bind(*inputs, **equation.params)

            axes = tuple(0 if many else None for many in steps)
            return _Steps(self._one(jax.vmap(at_step, axes)(*arrays)))

    def _one(self, outputs: Any) -> Any:
        return outputs[self.position] if self.equation.primitive.multiple_results else outputs


def _array(value: Any) -> Any:
    """Return a value, or its values at all steps."""
    return value.array if isinstance(value, _Steps) else value


def _inner(equation: JaxprEqn) -> ClosedJaxpr | None:
    """Return the function that an equation only calls, as `jax.jit` makes them."""
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    fits = isinstance(inner, ClosedJaxpr) and len(inner.jaxpr.invars) == len(equation.invars)
    called = equation.primitive.name in ("jit", "pjit", "closed_call", "custom_jvp_call", "remat")
    return inner if fits and called else None


def _has_jaxpr(equation: JaxprEqn) -> bool:
    return any(isinstance(x, ClosedJaxpr | Jaxpr) for x in jax.tree.leaves(equation.params))


def _looked_at(equation: JaxprEqn, values: _Values) -> Iterator[BadIndex]:
    """Yield the bad indexes of one operation."""
    name = equation.primitive.name
    invars: list[Any] = equation.invars
    if name == "gather":
        operand, starts = invars
        numbers, mode = equation.params["dimension_numbers"], equation.params["mode"]
        room = np.subtract(operand.aval.shape, equation.params["slice_sizes"])
        # one index in a function that `jax.vmap` maps clips without being told to
        told = bool(numbers.collapsed_slice_dims) or "CLIP" not in str(mode)
        kind = _kind_of(str(mode), equation.params["fill_value"]) if told else "clamped"
        if kind is not None:
            yield from _outside(values(starts), numbers.start_index_map, operand, room, kind)
    elif name.startswith("scatter"):
        operand, starts = invars[:2]
        numbers = equation.params["dimension_numbers"]
        dims = numbers.scatter_dims_to_operand_dims
        inserted = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
        if set(dims) <= set(inserted) and "CLIP" not in str(equation.params["mode"]):
            room = np.subtract(operand.aval.shape, 1)
            yield from _outside(values(starts), dims, operand, room, "dropped")
    elif name == "dynamic_slice":
        operand, *starts = invars
        for axis, start in enumerate(starts):
            room = np.subtract(operand.aval.shape, equation.params["slice_sizes"])
            value = values(start)
            if value is not UNKNOWN:
                index = np.asarray(_array(value)).reshape(-1, 1)
                yield from _outside(index, (axis,), operand, room, "clamped")
    elif name == "select_n":
        yield from _from_the_end(equation, values)


def _kind_of(mode: str, fill: object) -> Kind | None:
    """Return what a gather does with indexes out of range; None where the program says to clip."""
    if "CLIP" in mode:
        return None
    if "FILL" in mode:
        # what `jnp.take` does unless it is told otherwise
        is_nan = isinstance(fill, float) and np.isnan(fill)
        return "clamped" if is_nan or fill is None else "dropped"
    return "clamped"


def _outside(
    starts: object, dims: Sequence[Any], operand: Any, room: np.ndarray, kind: Kind
) -> Iterator[BadIndex]:
    """Yield the starts that leave no room for what is read there."""
    if starts is UNKNOWN:
        return
    starts = np.asarray(_array(starts))
    for position, dim in enumerate(dims):
        index = starts[..., position]
        wrong = np.unique(index[(index < 0) | (index > room[dim])])
        if wrong.size:
            yield BadIndex(kind, operand.aval.shape[dim], tuple(int(i) for i in wrong[:100]))


def _from_the_end(equation: JaxprEqn, values: _Values) -> Iterator[BadIndex]:
    """Yield negative indexes that count from the end: select(index < 0, index + size, index)."""
    out: Any = equation.outvars[0]
    if len(equation.invars) != 3 or not np.issubdtype(out.aval.dtype, np.integer):
        return
    chosen = values(equation.invars[0])
    if chosen is UNKNOWN or not np.any(_array(chosen)):
        return
    given = [chosen, *(values(atom) for atom in equation.invars[1:])]
    if any(value is UNKNOWN for value in given):
        return
    chosen, index, moved = (np.asarray(_array(value)) for value in given)
    # one value may hold for all steps of a scan
    chosen, index, moved = np.broadcast_arrays(chosen, index, moved)
    sizes = np.unique(moved.astype(int) - index)
    if len(sizes) == 1 and sizes[0] > 0 and np.array_equal(chosen, index < 0):
        wrong = np.unique(index[chosen])
        yield BadIndex("negative", int(sizes[0]), tuple(int(i) for i in wrong[:100]))


def _one_hot(equation: JaxprEqn, values: _Values) -> Iterator[BadIndex]:
    """Yield the labels that `jax.nn.one_hot` encodes as zeros."""
    labels = values(equation.invars[0])
    out: Any = equation.outvars[0]
    shape: Any = equation.invars[0]
    sizes, shape = out.aval.shape, shape.aval.shape
    if labels is UNKNOWN or not sizes:
        return
    labels = np.asarray(_array(labels))
    size = next((n for i, n in enumerate(sizes) if (*sizes[:i], *sizes[i + 1 :]) == shape), 0)
    wrong = np.unique(labels[(labels < 0) | (labels >= size)])
    if size and wrong.size:
        yield BadIndex("one-hot", size, tuple(int(i) for i in wrong[:100]))
