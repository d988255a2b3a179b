"""Gaussian process regression through inducing inputs: the collapsed bound and its predictive.

With u = f(Z) at m inducing inputs Z, K_uu = L L', A = L^-1 K_uf / sigma and B = I + A A',

    log p(y) >= log N(y; 0, Q + sigma^2 I) - tr(K - Q) / (2 sigma^2),    Q = K_fu K_uu^-1 K_uf

(Titsias 2009), at the cost of n m^2 and in blocks of rows, so that memory is linear in the rows.
With L_B L_B' = B and c = L_B^-1 A y / sigma the predictive of f at x is normal, with

    v = L^-1 k_u(x),  w = L_B^-1 v,    mean w'c,    variance k(x, x) - |v|^2 + |w|^2.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from inference.core.result import AbstractPredictive, Conditional
from inference.core.structure import AbstractGaussianProcessRegression
from inference.core.typing import Key, SiteArrays
from inference.exact.density import JOINT_JITTER

# rows that are looked at together
BLOCK = 1024
# relative to the mean variance of f at the inducing inputs
JITTER = 1e-8
# below this share of its variance a function is known at an input, and no further one is chosen
KNOWN = 1e-9


class Sums(NamedTuple):
    """What the bound needs to know of the rows.

    Attributes:
        root: L, the Cholesky factor of K_uu.
        squares: L^-1 K_uf K_fu L^-T.
        product: L^-1 K_uf y.
        variance: the sum of k(x, x) over the rows.
    """

    root: jax.Array
    squares: jax.Array
    product: jax.Array
    variance: jax.Array


def sum_over_rows(kernel: Any, Z: jax.Array, X: jax.Array, y: jax.Array) -> Sums:
    """Return what the bound needs to know of the rows, one block of them after the other."""
    covariance = kernel(Z, Z)
    scale = jnp.mean(jnp.diagonal(covariance))
    root = jnp.linalg.cholesky(covariance + JITTER * scale * jnp.eye(len(Z)))
    blocks = -(-len(X) // BLOCK)
    short = blocks * BLOCK - len(X)
    mask = jnp.pad(jnp.ones(len(X)), (0, short)).reshape(blocks, -1)
    # rows that fill the last block are copies of the first row, and count nothing
    rows = jnp.concatenate([X, jnp.broadcast_to(X[:1], (short, X.shape[1]))])
    targets = jnp.pad(y, (0, short)).reshape(blocks, -1)

    @jax.checkpoint
    def add(total: tuple, block: tuple) -> tuple[tuple, None]:
        rows, targets, mask = block
        v = solve_triangular(root, kernel(Z, rows), lower=True) * mask[None, :]
        squares, product, variance = total
        return (squares + v @ v.T, product + v @ targets, variance + kernel(rows) @ mask), None

    zero = (jnp.zeros_like(root), jnp.zeros(len(Z), root.dtype), jnp.zeros((), root.dtype))
    total, _ = jax.lax.scan(add, zero, (rows.reshape(blocks, BLOCK, -1), targets, mask))
    return Sums(root, *total)


def collapsed_bound(
    regression: AbstractGaussianProcessRegression,
    values: SiteArrays,
    Z: jax.Array,
    X: jax.Array,
    y: jax.Array,
) -> tuple[jax.Array, SiteArrays]:
    """Return the bound on log p(y), and what the predictive needs besides the hyperparameters.

    Args:
        regression: the Gaussian process regression.
        values: the hyperparameters by site.
        Z: the inducing inputs, shape (m, columns).
        X: the inputs, shape (n, columns).
        y: the targets, shape (n,).
    """
    sums = sum_over_rows(regression.kernel_at(values, X.shape[1]), Z, X, y)
    noise = regression.noise_variance(values)
    inner_root = jnp.linalg.cholesky(jnp.eye(len(Z)) + sums.squares / noise)
    c = solve_triangular(inner_root, sums.product, lower=True) / noise
    log_det = len(y) * jnp.log(2 * jnp.pi * noise) + 2 * jnp.log(jnp.diagonal(inner_root)).sum()
    left = sums.variance - jnp.trace(sums.squares)
    bound = -(log_det + (y @ y + left) / noise - c @ c) / 2
    return bound, {"inducing": Z, "root": sums.root, "inner_root": inner_root, "c": c}


def choose_inducing(kernel: Any, X: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Return the rows that a pivoted Cholesky factorisation takes first, and how many differ.

    Each next row is that whose f has the largest variance given f at the rows so far.

    Args:
        kernel: the kernel.
        X: the rows, shape (n, columns).
        count: how many rows to choose.

    Returns:
        The numbers of the rows, shape (count,), and how many of them, the first ones, tell of f.
    """
    prior = kernel(X)

    def choose(step: jax.Array, state: tuple) -> tuple:
        factor, left, chosen, useful = state
        row = jnp.argmax(left)
        useful = useful + (left[row] > KNOWN * prior.max())
        column = kernel(X, X[row][None])[:, 0] - factor.T @ factor[:, row]
        column = column / jnp.sqrt(jnp.maximum(left[row], KNOWN * prior.max()))
        left = jnp.maximum(left - column**2, 0.0)
        return factor.at[step].set(column), left, chosen.at[step].set(row), useful

    empty = jnp.zeros((count, len(X)), X.dtype), prior, jnp.zeros(count, int), jnp.zeros((), int)
    _, _, chosen, useful = jax.lax.fori_loop(0, count, choose, empty)
    return chosen, useful


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class InducingPredictive(AbstractPredictive):
    """The distribution of new targets given f at inducing inputs.

    It takes the hyperparameters and what `collapsed_bound` returns in the place of a draw.

    Attributes:
        regression: the Gaussian process regression.
    """

    regression: AbstractGaussianProcessRegression = dataclasses.field(metadata={"static": True})

    def __call__(
        self, latents: dict, key: Key | None, X_new: ArrayLike, joint: bool = False
    ) -> Conditional:
        X_new = jnp.asarray(X_new)
        kernel = self.regression.kernel_at(latents, X_new.shape[1])
        noise = self.regression.noise_variance(latents)
        v = solve_triangular(latents["root"], kernel(latents["inducing"], X_new), lower=True)
        w = solve_triangular(latents["inner_root"], v, lower=True)
        mean = w.T @ latents["c"]
        variance = jnp.maximum(kernel(X_new) - (v**2).sum(0) + (w**2).sum(0), 0.0)
        if not joint:
            return Conditional(dist.Normal(mean, jnp.sqrt(variance + noise)), variance)
        diagonal = (noise + JOINT_JITTER) * jnp.eye(len(X_new))
        covariance = kernel(X_new, X_new) - v.T @ v + w.T @ w + diagonal
        return Conditional(dist.MultivariateNormal(mean, covariance), variance)
