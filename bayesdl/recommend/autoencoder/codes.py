"""A user's code z: the encoder's answer, its refinement, and scores of all items from it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from bayesdl.recommend.autoencoder.network import Network, Weights
from bayesdl.recommend.autoencoder.objective import Objective, entry_totals
from bayesdl.recommend.probabilities import normal_noise
from bayesdl.recommend.rows import AnyArray, Entries

# Adam's rate for a user's own mean and log variance.
REFINE_RATE = 0.02


@dataclasses.dataclass(frozen=True)
class UserPosterior:
    """The posteriors q(z | x) = N(mean, diag sd^2) of users.

    Attributes:
        mean: the means, shape (users, latent).
        sd: the standard deviations, shape (users, latent).
        likelihood_power: the power of the likelihood under which q is the posterior, for each
            user, shape (users,).
    """

    mean: np.ndarray
    sd: np.ndarray
    likelihood_power: np.ndarray

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw codes, shape (n, users, latent).

        Args:
            n: the number of draws.
            seed: the seed of the draws.
        """
        return self.mean + self.sd * np.random.default_rng(seed).normal(size=(n, *self.mean.shape))


@functools.partial(jax.jit, static_argnames="objective")
def encode_users(objective: Objective, params: Weights, x: Entries) -> tuple[jax.Array, jax.Array]:
    """Return mean and log variance of users' codes, shape (b, latent).

    Without any item the posterior is the prior, and the encoder need not guess. This holds for the
    multinomial likelihood only: under the others, an empty row is data.
    """
    code = objective.network.encode(params, x)
    kinds = (objective.prior, objective.likelihood)
    if not objective.network.stochastic or kinds != ("normal", "multinomial"):
        return code
    known = entry_totals(x)[:, None] > 0
    return jnp.where(known, code[0], 0.0), jnp.where(known, code[1], 0.0)


@functools.partial(jax.jit, static_argnames="objective")
def decode_codes(objective: Objective, params: Weights, z: AnyArray) -> jax.Array:
    """Return the scores of all items from users' codes, shape (b, items)."""
    return objective.network.decode(params, z)  # pyright: ignore[reportReturnType]


@functools.partial(jax.jit, static_argnames="objective")
def score_items(objective: Objective, params: Weights, x: Entries) -> jax.Array:
    """Return the scores of all items at the mean of users' codes, shape (b, items)."""
    mean = encode_users(objective, params, x)[0]
    return objective.network.decode(params, mean)  # pyright: ignore[reportReturnType]


@functools.partial(jax.jit, static_argnames="objective")
def refine_codes(
    objective: Objective,
    params: Weights,
    code: tuple[AnyArray, AnyArray],
    x: Entries,
    beta: ArrayLike,
    steps: ArrayLike,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Refine each user's mean and log variance by steps of Adam on the bound.

    Users share the noise of a step, so that a user's answer does not depend on the other users of
    the call. The noise is taken with both signs, which leaves the even part of its error alone.

    Args:
        objective: the objective of the fit.
        params: its parameters.
        code: mean and log variance at the start, shape (b, latent).
        x: the batch of users.
        beta: the factor of the divergence, a number or one for each user.
        steps: the number of steps.
        key: the key of the noise.
    """
    optimizer = optax.adam(REFINE_RATE)

    def loss(code: tuple, key: jax.Array) -> jax.Array:
        e = normal_noise(key[None], code[0].shape[1])
        plus, minus = (objective.bound(params, code, x, beta, sign * e) for sign in (1.0, -1.0))
        return -(plus + minus).sum() / 2

    def step(i: ArrayLike, carry: tuple) -> tuple:
        code, state = carry
        updates, state = optimizer.update(jax.grad(loss)(code, jax.random.fold_in(key, i)), state)
        return optax.apply_updates(code, updates), state

    return jax.lax.fori_loop(0, steps, step, (code, optimizer.init(code)))[0]


@functools.cache
def score_draw(network: Network) -> Callable[..., jax.Array]:
    """Return the draw of log weights, which are the scores, for a block of users.

    It is a function of weights, means, log variances and keys. It is made once for each network, so
    that functions that take it are compiled once.
    """

    def draw(params: Weights, mean: AnyArray, log_variance: AnyArray, keys: jax.Array) -> AnyArray:
        z = mean
        if network.stochastic:
            z = mean + jnp.exp(log_variance / 2) * normal_noise(keys, mean.shape[1])
        return network.decode(params, z)

    return draw  # pyright: ignore[reportReturnType]
