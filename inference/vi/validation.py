"""Refusals of a program or a guide, in words, before anything is optimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from numpyro.distributions import constraints

from inference.core.problem import Problem, ProblemError
from inference.core.program import signature_of
from inference.core.typing import Key
from inference.vi.expectation import Expectation
from inference.vi.gradients.estimators import AbstractEstimator

# draws of a guide that are checked
NUM_CHECKED = 32

# supports without parameters, which draws can be held against
FIXED_SUPPORTS = (
    constraints.positive,
    constraints.nonnegative,
    constraints.unit_interval,
    constraints.simplex,
    constraints.boolean,
    constraints.nonnegative_integer,
    constraints.positive_integer,
    constraints.ordered_vector,
)


def refuse_other_arguments(
    what: str, program: Callable, args: tuple, kwargs: Mapping[str, Any]
) -> None:
    """Refuse a program that cannot be called with the data.

    Args:
        what: what the program is to the user, e.g. "guide".
        program: the program.
        args: the positional arguments.
        kwargs: the keyword arguments.

    Raises:
        ProblemError: saying what it was called with.
    """
    try:
        signature_of(program).bind(*args, **kwargs)
    except TypeError as error:
        given = [f"{len(args)} positional"] * bool(args) + [f"{name}=" for name in kwargs]
        raise ProblemError(
            f"The {what} cannot be called with the data ({', '.join(given) or 'none'}): {error}. "
            "Model and guide get the same arguments; give the guide those of the model."
        ) from None


def refuse_classes(estimators: Mapping[str, object]) -> None:
    """Refuse what is not an estimator.

    Raises:
        ValueError: with the likely cure.
    """
    for name, estimator in estimators.items():
        if isinstance(estimator, type) and issubclass(estimator, AbstractEstimator):
            raise ValueError(
                f"estimators: site '{name}' has the class {estimator.__name__}; write "
                f"{estimator.__name__}()."
            )
        if not isinstance(estimator, AbstractEstimator):
            raise ValueError(
                f"estimators: site '{name}' has {estimator!r}, expected one such as vi.MVD()."
            )


def refuse_other_supports(
    problem: Problem, expectation: Expectation, params: Mapping[str, Any], key: Key
) -> None:
    """Refuse a guide whose draws are not values that the model's sites can have.

    No density would tell.

    Raises:
        ProblemError: naming the site.
    """

    def draw(key: Key) -> dict:
        once = Expectation(
            lambda p, q: q.sim()[0], expectation.p, expectation.q, expectation.estimators, 1
        )
        return once.run_once(key, params, problem.args, dict(problem.kwargs))

    values = jax.jit(jax.vmap(draw))(jax.random.split(key, NUM_CHECKED))
    for name, value in values.items():
        site = problem.trace.get(name)
        if site is None or site["type"] != "sample":
            # an autoguide's own site, or a name that density refuses
            continue
        support, found = site["fn"].support, np.asarray(value)
        reason = None
        if support.is_discrete and not np.array_equal(found, np.round(found)):
            reason = "whole numbers"
        elif not support.is_discrete and not np.issubdtype(found.dtype, np.floating):
            reason = "real numbers, and the guide's are whole"
        elif any(support is fixed for fixed in FIXED_SUPPORTS) and not np.all(support(value)):
            reason = f"values of the constraint {support}"
        if reason:
            example = np.ravel(found[0])[0]
            raise ProblemError(
                f"Guide site '{name}' draws values such as {example:.4g}, which the model's "
                f"{type(site['fn']).__name__} cannot have: expected {reason}. Give the guide a "
                "distribution with the model's support."
            )
