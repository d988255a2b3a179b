"""A user's code z: what the encoder says of it, what steps of optimising make of that, and scores of all items from it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesdl.recommend.autoencoder.network import Network
from bayesdl.recommend.autoencoder.objective import Objective, totals
from bayesdl.recommend.rows import Entries

REFINE_RATE = 0.02  # Adam's, of a user's own mean and log variance


@dataclasses.dataclass(frozen=True)
class Refinement:
    """How a user's posterior is found from the encoder's answer.

    Attributes:
        steps: of optimising each user's mean and variance; zero takes the encoder's.
        likelihood_power: of the posterior; None for that of training.
    """

    steps: int = 0
    likelihood_power: float | int | None = None

    def __post_init__(self) -> None:
        if (
            not isinstance(self.steps, int | np.integer)
            or isinstance(self.steps, bool)
            or self.steps < 0
        ):
            raise ValueError(f"refine_steps={self.steps!r}: expected a whole number of at least 0.")
        if self.likelihood_power is not None and not self.likelihood_power > 0:
            raise ValueError(
                f"likelihood_power={self.likelihood_power!r}: expected a number above zero."
            )
        if self.likelihood_power is not None and not self.steps:
            raise ValueError(
                "likelihood_power: the encoder knows that of training; give refine_steps too, such as 100."
            )


@dataclasses.dataclass(frozen=True)
class UserPosterior:
    """q(z | x) = N(mean, diag sd^2) of users.

    Attributes:
        mean: shape (users, latent).
        sd: shape (users, latent).
        likelihood_power: the power of the likelihood under which it is the posterior; a number, or one for each user.
    """

    mean: np.ndarray
    sd: np.ndarray
    likelihood_power: Any

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draws, shape (n, users, latent)."""
        return self.mean + self.sd * np.random.default_rng(seed).normal(size=(n, *self.mean.shape))


@functools.partial(jax.jit, static_argnames="objective")
def encoded(objective: Objective, params: dict, x: Entries) -> tuple[jax.Array, jax.Array]:
    """Mean and log variance; without any item the posterior is the prior, and the encoder need not guess."""
    code = objective.network.encode(params, x)
    if not objective.network.stochastic or (objective.prior, objective.likelihood) != (
        "normal",
        "multinomial",
    ):
        return code  # of the other likelihoods, no entries are data
    known = totals(x)[:, None] > 0
    return jnp.where(known, code[0], 0.0), jnp.where(known, code[1], 0.0)


@functools.partial(jax.jit, static_argnames="objective")
def decoded(objective: Objective, params: dict, z: Any) -> jax.Array:
    return objective.network.decode(params, z)


@functools.partial(jax.jit, static_argnames="objective")
def scored(objective: Objective, params: dict, x: Entries) -> jax.Array:
    return objective.network.decode(params, encoded(objective, params, x)[0])


@functools.partial(jax.jit, static_argnames="objective")
def refined(
    objective: Objective,
    params: dict,
    code: tuple,
    x: Entries,
    beta: Any,
    steps: Any,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Each user's mean and log variance after so many steps of Adam on the bound.

    Users share the noise of a step, so that a user's answer does not depend on who is asked for beside him; it is taken with
    both signs, which leaves the even part of its error alone.
    """
    optimizer = optax.adam(REFINE_RATE)

    def loss(code: tuple, key: jax.Array) -> jax.Array:
        e = noise(key[None], code[0].shape[1])
        plus, minus = (objective.bound(params, code, x, beta, sign * e) for sign in (1.0, -1.0))
        return -(plus + minus).sum() / 2

    def step(i: Any, carry: tuple) -> tuple:
        code, state = carry
        updates, state = optimizer.update(jax.grad(loss)(code, jax.random.fold_in(key, i)), state)
        return optax.apply_updates(code, updates), state

    return jax.lax.fori_loop(0, steps, step, (code, optimizer.init(code)))[0]


def noise(keys: jax.Array, size: int) -> jax.Array:
    """Standard normal numbers of each key, shape (keys, size)."""
    return jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)


@functools.cache
def drawer(network: Network) -> Any:
    """Draws log weights, the scores, of a block of users from weights, means and log variances."""

    def draw(params: dict, mean: Any, log_variance: Any, keys: jax.Array) -> jax.Array:
        z = (
            mean + jnp.exp(log_variance / 2) * noise(keys, mean.shape[1])
            if network.stochastic
            else mean
        )
        return network.decode(params, z)

    return draw
