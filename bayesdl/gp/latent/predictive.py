"""f at new rows given its values at the training rows, and the targets there.

With f = L z at the training rows and A = L^-1 k(X, X_new),

    f_new | f ~ N(A' z, k(X_new, X_new) - A' A)

(Rasmussen and Williams 2006, equation 2.19). Each draw of z has one draw of f_new, so that draws
fix the function: rows one by one from their own normal, or all rows together.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bayesdl.gp.kernels import Kernel
from bayesdl.gp.latent.program import LatentProcess, covariance_root
from bayesdl.gp.program import JITTER, WHITENED
from inference.core.keys import named_key
from inference.core.result import DRAWS_AT_ONCE, AbstractPredictive, Conditional
from inference.core.typing import Key, SiteArrays

# entries of the covariances that are computed together, some 200 MB each time they are copied
MOST_ENTRIES = 25_000_000


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class LatentPredictive(AbstractPredictive):
    """The distribution of new targets given a draw of f at the training rows.

    Attributes:
        process: the kernel and the likelihood.
        X: the training inputs, shape (rows, columns).
    """

    process: LatentProcess = dataclasses.field(metadata={"static": True})
    X: Any

    @property
    def draws_at_once(self) -> int:
        # each has a covariance of the training rows
        return max(1, min(DRAWS_AT_ONCE, MOST_ENTRIES // len(self.X) ** 2))

    def __call__(
        self, latents: SiteArrays, key: Key, X_new: ArrayLike, joint: bool = False
    ) -> Conditional:
        X, X_new = jnp.asarray(self.X), jnp.asarray(X_new)
        z, noise_key = jnp.asarray(latents[WHITENED]), named_key(key, "function at new rows")
        rows = len(X_new) if joint else 1
        noise = jax.random.normal(noise_key, (rows, z.shape[1]), z.dtype)
        drawn = _jointly if joint else _row_by_row
        kernels = self.process.kernels(latents, X.shape[1])
        # one kernel is that of all functions, and otherwise each has its own
        apart = [slice(i, i + 1) for i in range(len(kernels))]
        columns = apart if len(kernels) > 1 else [slice(None)]
        outputs = [
            drawn(kernel, X, X_new, z[:, column], noise[:, column])
            for kernel, column in zip(kernels, columns, strict=True)
        ]
        distribution = self.process.targets(latents, jnp.concatenate(outputs, axis=1))
        return Conditional(distribution, jnp.zeros(len(X_new)))


def _row_by_row(
    kernel: Kernel, X: jax.Array, X_new: jax.Array, z: jax.Array, noise: jax.Array
) -> jax.Array:
    """Draw f at each new row by itself; rows share the noise, so that chunks of them agree."""
    projected = _projected(kernel, X, X_new)
    variance = jnp.maximum(kernel(X_new) - jnp.sum(projected**2, axis=0), 0.0)
    return projected.T @ z + jnp.sqrt(variance)[:, None] * noise


def _jointly(
    kernel: Kernel, X: jax.Array, X_new: jax.Array, z: jax.Array, noise: jax.Array
) -> jax.Array:
    """Draw f at all new rows together."""
    projected = _projected(kernel, X, X_new)
    whole = kernel(X_new, X_new)
    jitter = JITTER * jnp.mean(jnp.diagonal(whole))
    covariance = whole - projected.T @ projected + jitter * jnp.eye(len(X_new))
    return projected.T @ z + jnp.linalg.cholesky(covariance) @ noise


def _projected(kernel: Kernel, X: jax.Array, X_new: jax.Array) -> jax.Array:
    """Return A = L^-1 k(X, X_new)."""
    root = covariance_root(kernel, X)
    return jax.scipy.linalg.solve_triangular(root, kernel(X, X_new), lower=True)
