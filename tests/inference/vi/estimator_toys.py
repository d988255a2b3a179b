"""What tests of gradient estimators share: z scores of mean gradients, and objectives."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesdl.vi import (
    elbo,
    iwelbo,
)

DRAWS = 20_000


KEY = jax.random.key(0)


def z_scores(E, params, exact, *args):
    """z of the mean gradient against the exact one, for each parameter."""
    one = jax.value_and_grad(lambda p, key: E(key, p, *args))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*without a baseline")
        _, gradients = jax.jit(jax.vmap(one, (None, 0)))(
            params, jax.random.split(jax.random.key(1), DRAWS)
        )
    scores = {}
    for name, g in gradients.items():
        g, expected = (
            np.asarray(g, float).reshape(DRAWS, -1),
            np.asarray(exact[name], float).ravel(),
        )
        error = np.maximum(g.std(0) / np.sqrt(DRAWS), 1e-6 * (1 + np.abs(expected)))
        scores[name] = np.max(np.abs(g.mean(0) - expected) / error)
    return scores


def squared(p, q):
    """Not linear in anything: the square of the sum of all draws."""
    z, _ = q.sim()
    return sum(jnp.sum(value) for value in z.values()) ** 2.0


OBJECTIVES = {
    "elbo": elbo,
    "iwelbo 2": functools.partial(iwelbo, K=2),
    "iwelbo 3": functools.partial(iwelbo, K=3),
    "square": squared,
}


def costly(names, quick):
    """All of them; only the quick ones in every run, as each compiles its own program."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in names]
