"""Priors of numbers that are learned with the circuit: what states have in common.

The covariances of a block's K states come from one inverse Wishart, and their means from one
normal. Given the posteriors of all states the divergence from the prior is least at

    Psi = nu K (sum_k E[S_k^-1])^-1,   1 / kappa = (1 / K d) sum_k E[(mu_k)' S_k^-1 mu_k],

for each nu, of which a few are tried. So states with few rows borrow the correlations of the
others. Type-II maximum likelihood; a state of its own with the variances of the whole column, and
a small ridge, keep Psi from what one state alone says.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from inference.circuits.statistics import (
    Prior,
    Statistics,
    Wishart,
    wishart_facts,
    wishart_kl,
    wisharts,
)

# nu - d - 1 is one of these, and one of these times d
FREEDOMS = (1.0, 4.0, 16.0, 64.0)
# the share of the column's variance that Psi has at least, as nu states
RIDGE = 2e-3
# bounds of kappa
SMALLEST, LARGEST = 1e-3, 1.0


@jax.jit
def tuned(prior: Prior, found: Statistics) -> Prior:
    """Return the prior under which the posteriors diverge least from it, block by block.

    Args:
        prior: the prior as it is.
        found: the expected statistics of all rows.
    """
    parts = [_of_size(w) for w in wisharts(prior, found)]
    return prior._replace(
        kappas=tuple(part[0] for part in parts),
        freedoms=tuple(part[1] for part in parts),
        scales=tuple(part[2] for part in parts),
    )


def _of_size(w: Wishart) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return kappa, nu and Psi of the blocks of one size."""
    facts, (_, states, size) = wishart_facts(w), jnp.shape(w.mean)
    eye = jnp.eye(size)[None]
    distance = (size / w.kappa + w.nu * facts.distance).sum(-1)
    kappa = jnp.clip(states * size / distance, SMALLEST, LARGEST)
    precision = (w.nu[..., None, None] * facts.inverse).sum(1) + eye
    pooled = (states + 1) * jnp.linalg.inv(precision) + RIDGE * eye
    pooled = (pooled + pooled.mT) / 2
    tried = jnp.array([size + 1 + f for f in FREEDOMS] + [size + 1 + f * size for f in (2.0, 8.0)])

    def divergence(nu: jax.Array) -> jax.Array:
        before = Wishart(
            w.mean, kappa[:, None], jnp.full((len(kappa), 1), nu), nu * pooled[:, None]
        )
        return wishart_kl(w, before, facts).sum(1)

    nu = tried[jnp.argmin(jax.lax.map(divergence, tried), axis=0)]
    return kappa, nu, nu[:, None, None] * pooled
