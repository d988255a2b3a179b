"""Arguments of every form, and programs that are no plain functions."""

from __future__ import annotations

import collections
import functools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from numpyro.handlers import scope

from programs.case import Case, generator

rng = generator(7)
x = np.linspace(-1, 1, 16)
y = 1 + 2 * x + 0.3 * rng.normal(size=16)
Data = collections.namedtuple("Data", ["x", "z"])


def line(x, y=None, scale=0.3):
    a, b = numpyro.sample("a", dist.Normal(0, 5)), numpyro.sample("b", dist.Normal(0, 5))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a + b * jnp.asarray(x), scale), obs=y)


def of_dictionary(data, y=None):
    b = numpyro.sample("b", dist.Normal(0, 5))
    with numpyro.plate("rows", len(data["x"])):
        numpyro.sample("y", dist.Normal(b * data["x"] + data["more"]["z"], 0.3), obs=y)


def of_tuple(data, y=None):
    b = numpyro.sample("b", dist.Normal(0, 5))
    with numpyro.plate("rows", len(data.x)):
        numpyro.sample("y", dist.Normal(b * data.x + data.z, 0.3), obs=y)


def observed_dictionary(x, targets=None):
    """Observations in a dictionary of their own."""
    b = numpyro.sample("b", dist.Normal(0, 5))
    targets = {} if targets is None else targets
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b * x, 0.3), obs=targets.get("y"))


def of_frame(frame, y=None):
    b = numpyro.sample("b", dist.Normal(0, 5))
    with numpyro.plate("rows", len(frame["x"])):
        numpyro.sample("y", dist.Normal(b * jnp.asarray(frame["x"]), 0.3), obs=y)


def keywords_only(*, x, y=None):
    line(x, y)


def values_read(x, y=None):
    """A constant is read from the values in Python."""
    degree = 2 if x.max() > 0.5 else 1
    with numpyro.plate("powers", 3):
        b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", len(x)):
        mean = sum(b[k] * x**k for k in range(degree + 1))
        numpyro.sample("y", dist.Normal(mean, 0.3), obs=y)


def chosen_rows(x, keep, y=None):
    """Boolean indexing."""
    b = numpyro.sample("b", dist.Normal(0, 5))
    kept = x[keep]
    with numpyro.plate("rows", len(kept)):
        numpyro.sample("y", dist.Normal(b * kept, 0.3), obs=None if y is None else y[keep])


def scoped(x, y=None):
    def slope():
        return numpyro.sample("b", dist.Normal(0, 5))

    b = scope(slope, "slope")()
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b * x, 0.3), obs=y)


def length_of_targets(n, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    with numpyro.plate("rows", n if y is None else len(y)):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


class Model:
    """A program with a state of its own."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x, y=None):
        line(x, y, self.scale)

    def program(self, x, y=None):
        line(x, y, self.scale)


def logged(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


later = x[:5] * 1.2
frame = pd.DataFrame({"x": x, "other": 1.0}, index=np.arange(16)[::-1])

CASES = (
    Case("a list", line, (x.tolist(),), {"y": y.tolist()}, (later.tolist(),)),
    Case("JAX arrays", line, (jnp.asarray(x),), {"y": jnp.asarray(y)}, (jnp.asarray(later),)),
    Case("a Series", line, (frame["x"],), {"y": pd.Series(y, frame.index)}, (frame["x"][:3],)),
    Case("single precision", line, (x.astype(np.float32),), {"y": y.astype(np.float32)}, (later,)),
    Case(
        "a dictionary",
        of_dictionary,
        ({"x": x, "more": {"z": np.ones(16)}},),
        {"y": y},
        ({"x": later, "more": {"z": np.ones(5)}},),
    ),
    Case("a named tuple", of_tuple, (Data(x, np.ones(16)),), {"y": y}, (Data(later, np.ones(5)),)),
    Case("targets in a dictionary", observed_dictionary, (x,), {"targets": {"y": y}}, (later,)),
    Case("a data frame", of_frame, (frame,), {"y": y}, (frame[:4],)),
    Case("partial", functools.partial(line, scale=0.5), (x,), {"y": y}, (later,)),
    Case("a callable object", Model(0.4), (x,), {"y": y}, (later,)),
    Case("a bound method", Model(0.4).program, (x,), {"y": y}, (later,)),
    Case("a lambda", lambda x, y=None: line(x, y), (x,), {"y": y}, (later,)),
    Case("a decorated function", logged(line), (x,), {"y": y}, (later,)),
    Case("values read in Python", values_read, (x,), {"y": y}, (x[::-1],)),
    Case("rows chosen by a mask", chosen_rows, (x, x > -0.5), {"y": y}, (later, later > -0.9)),
    Case("scope", scoped, (x,), {"y": y}, (later,)),
    Case("length of the targets", length_of_targets, (16,), {"y": y}, (5,)),
    Case(
        "a column of targets",
        line,
        (x,),
        {"y": y[:, None]},
        refused={"fit": r"\(16, 1\)"},
    ),
    Case("too few targets", line, (x,), {"y": y[:10]}, refused={"fit": "10"}),
    Case(
        "milliseconds since 1970",
        line,
        (1_700_000_000_000 + 86_400_000 * np.arange(16),),
        {"y": y},
        refused={"fit": "x"},
    ),
    Case(
        "a missing target",
        line,
        (x,),
        {"y": np.where(np.arange(16) == 3, np.nan, y)},
        refused={"fit": "'y'.*(row|NaN).*3|3.*NaN"},
    ),
)
