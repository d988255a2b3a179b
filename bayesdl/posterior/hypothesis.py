"""Posterior probabilities of statements about parameters, such as "days > 0".

With h the statement: P(h | y) from the posterior draws, odds P(h | y) / P(not h | y), and where
the priors are proper the Bayes factor, which is these odds over those of draws from the prior; both
have a Monte Carlo error.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from bayesdl.data.validation import did_you_mean
from bayesdl.model.names import entry_labels, site_dims
from bayesdl.model.precision import precision_scope
from bayesdl.posterior.core import AbstractPosterior
from inference.core.typing import StoredArrays

PRIOR_DRAWS = 4000
OPERATORS: Mapping[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: Mapping[str, Callable] = {"abs": np.abs, "exp": np.exp, "log": np.log, "sqrt": np.sqrt}


@dataclasses.dataclass(frozen=True, eq=False)
class Hypothesis:
    """What the posterior says of a statement.

    Attributes:
        statement: the statement.
        draws: how much the greater side is above the lesser, shape (chain, draw).
        prior_draws: the same for draws from the prior, shape (draw,); None for improper priors.
    """

    statement: str
    draws: np.ndarray
    prior_draws: np.ndarray | None

    @property
    def probability(self) -> float:
        """P(h | y)."""
        return float((self.draws > 0).mean())

    @property
    def mcse(self) -> float:
        """The Monte Carlo standard error of the probability, from effective draws."""
        from arviz_stats.base.array import array_stats

        below = (self.draws > 0).astype(float)
        if np.ptp(below) == 0:
            return 0.0
        error: Any = array_stats.mcse(below, chain_axis=0, draw_axis=1, method="mean")
        return float(error)

    @property
    def odds(self) -> float:
        """P(h | y) / P(not h | y); infinite where every draw agrees."""
        return _odds(self.probability)

    @property
    def prior_odds(self) -> float | None:
        """The odds of the prior; None for improper priors."""
        return None if self.prior_draws is None else _odds(float((self.prior_draws > 0).mean()))

    @property
    def bayes_factor(self) -> float | None:
        """Posterior odds over prior odds.

        None for improper priors, and where all draws from the prior agree.
        """
        before = self.prior_odds
        return None if before is None or before in (0, np.inf) else self.odds / before

    @property
    def bayes_factor_error(self) -> float | None:
        """The Monte Carlo standard error of the Bayes factor, from draws of both; may be infinite.

        With p and q the probabilities of posterior and prior, of n draws from the prior, the delta
        method has se^2 / factor^2 = mcse^2 / (p (1 - p))^2 + 1 / (n q (1 - q)).
        """
        factor = self.bayes_factor
        if factor is None or self.prior_draws is None:
            return None
        p, q = self.probability, float((self.prior_draws > 0).mean())
        if p in (0, 1):
            return float("inf")
        relative = (self.mcse / (p * (1 - p))) ** 2 + 1 / (self.prior_draws.size * q * (1 - q))
        return factor * relative**0.5

    @property
    def interval(self) -> np.ndarray:
        """The central 90 % interval of the difference of both sides."""
        return np.quantile(self.draws, [0.05, 0.95])

    def __repr__(self) -> str:
        low, high = self.interval
        difference = f"{self.draws.mean():.4g}, 90 % between {low:.4g} and {high:.4g}"
        factor = ""
        if self.bayes_factor is not None:
            factor = f", Bayes factor {self.bayes_factor:.4g} +- {self.bayes_factor_error:.2g}"
        elif self.prior_draws is not None:
            factor = f", no Bayes factor (all {self.prior_draws.size} draws of the prior agree)"
        total = self.draws.size
        every = f" (more than {total}: every draw agrees)" if np.isinf(self.odds) else ""
        return (
            f"P({self.statement}) = {self.probability:.4g} +- {self.mcse:.2g}; odds "
            f"{self.odds:.4g}{every}{factor}; difference {difference}"
        )


def judge(
    posterior: AbstractPosterior, statement: str, prior: Callable[[], StoredArrays | None]
) -> Hypothesis:
    """Return what the posterior says of a statement.

    Args:
        posterior: the posterior.
        statement: two sides with "<" or ">" between them.
        prior: gives `prior_draws`, which are the same for all statements.

    Raises:
        ValueError: for anything but two sides with "<" or ">" between them.
    """
    if not posterior.samples:
        raise ValueError(
            f"{posterior!r} has no draws of parameters: it predicts in closed form. Fit with "
            "bdl.NUTS()."
        )
    sides = re.split(r"(?<![<>=!])(>=|<=|>|<)(?![<>=])", statement) if _is_text(statement) else []
    if len(sides) != 3:
        raise ValueError(
            f"hypothesis({statement!r}): expected two sides with one '<' or '>' between them, such "
            "as 'days > 0'."
        )
    left, sign, right = sides
    entries = _entries(posterior, posterior.samples)
    value = _difference(left, sign, right, entries)
    drawn = prior()
    before = None
    if drawn is not None:
        before = np.asarray(_difference(left, sign, right, _entries(posterior, drawn)))[0]
    return Hypothesis(statement.strip(), np.asarray(value, np.float64), before)


def _is_text(statement: object) -> bool:
    return isinstance(statement, str)


def _difference(left: str, sign: str, right: str, entries: Mapping[str, np.ndarray]) -> Any:
    """Return how much the greater side is above the lesser for each draw."""
    values = [_value(side, entries) for side in (left, right)]
    difference = values[0] - values[1]
    if np.ndim(difference) == 0:
        raise ValueError(
            f"hypothesis: neither {left.strip()!r} nor {right.strip()!r} names a parameter."
        )
    return difference if sign[0] == ">" else -difference


def _value(side: str, entries: Mapping[str, np.ndarray]) -> Any:
    """Return the value of one side."""
    named: dict[str, np.ndarray] = {}
    code = side
    for label in sorted(entries, key=len, reverse=True):
        if label in code:
            place = f"entry_{len(named)}_"
            found = re.sub(rf"(?<![\w.]){re.escape(label)}(?![\w\[(])", place, code)
            if found != code:
                named[place], code = entries[label], found
    try:
        return _compute(ast.parse(code.strip(), mode="eval").body, named, side, entries)
    except SyntaxError:
        raise ValueError(_unknown(side.strip(), side, entries)) from None


def _compute(
    node: ast.AST, named: Mapping[str, np.ndarray], side: str, entries: Mapping[str, np.ndarray]
) -> Any:
    """Return the value of an expression of numbers and entries."""
    again = functools.partial(_compute, named=named, side=side, entries=entries)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name) and node.id in named:
        return named[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](again(node.left), again(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](again(node.operand))
    if isinstance(node, ast.Call) and ast.unparse(node.func) in FUNCTIONS and len(node.args) == 1:
        return FUNCTIONS[ast.unparse(node.func)](again(node.args[0]))
    raise ValueError(_unknown(ast.unparse(node), side, entries))


def _unknown(what: str, side: str, entries: Mapping[str, np.ndarray]) -> str:
    hint = did_you_mean(what, entries)
    return (
        f"hypothesis: {what!r} in {side.strip()!r} is no number and no parameter: {hint}The "
        f"parameters are {list(entries)[:10]}{' and more' if len(entries) > 10 else ''}."
    )


def _entries(posterior: AbstractPosterior, samples: StoredArrays) -> dict[str, np.ndarray]:
    """Return the scalars by the names that summaries have, shape (chain, draw) each."""
    dims = site_dims(posterior.problem, posterior.names)
    found: dict[str, np.ndarray] = {}
    for site, values in samples.items():
        shape = values.shape[2:]
        flat = values.reshape(*values.shape[:2], -1)
        for between in (", ", ","):
            labels = entry_labels(site, shape, dims, posterior.names, between)
            found |= {label: flat[..., j] for j, label in enumerate(labels)}
    return found


def prior_draws(posterior: AbstractPosterior) -> StoredArrays | None:
    """Draw the sites that the posterior has from the prior, shape (1, draw, ...).

    None is returned where the prior has no sampler.
    """
    problem, sites = posterior.problem, list(posterior.samples)

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        drawn = problem.prior_sample(key)
        return {name: drawn[name] for name in sites if name in drawn}

    keys = jax.random.split(jax.random.key(posterior.seed), PRIOR_DRAWS)
    try:
        with precision_scope(posterior.model):
            drawn = jax.jit(lambda keys: jax.lax.map(draw, keys, batch_size=100))(keys)
    # improper priors have no sampler
    except NotImplementedError:
        return None
    return {name: np.asarray(values)[None] for name, values in drawn.items()}


def _odds(probability: float) -> float:
    return float("inf") if probability == 1 else probability / (1 - probability)
