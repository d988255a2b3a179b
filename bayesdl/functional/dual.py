"""The 1-Wasserstein distance by its dual, as published.

The distance is the maximum of E phi(f) - E phi(g) over critics phi that are nearly 1-Lipschitz.
The critic is trained anew at each step of the prior, with the penalty 10 (|grad phi| - 1)^2 on
random points between pairs of functions (Gulrajani et al. 2017, arXiv:1704.00028). It is here for
comparison: its value depends on how long the critic was trained and does not measure the fit, and
it takes many times the time of `losses.energy`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from inference.core.typing import Key

# units of a hidden layer, weight of the penalty, steps of the critic, and its learning rate
WIDTH, PENALTY, INNER, RATE = 200, 10.0, 200, 0.02

Critic: TypeAlias = list[tuple[jax.Array, jax.Array]]
"""Weights and biases of a critic, layer by layer."""


def wasserstein(draw_network: Callable[[Key], jax.Array], g: jax.Array, key: Key) -> jax.Array:
    """Estimate E phi(f) - E phi(g) on fresh functions, with phi trained for these parameters.

    Args:
        draw_network: a function from a key to functions of the network, shape (functions, values),
            differentiable in the prior's parameters.
        g: functions of the target, twice as many; the first half trains the critic.
        key: the key of all draws.
    """
    start, bag, fresh, between = jax.random.split(key, 4)
    half = len(g) // 2
    f = jax.lax.stop_gradient(draw_network(bag))
    critic = _train_critic(_initial_critic(start, f.shape[1]), f, g[:half], between)
    critic = jax.lax.stop_gradient(critic)
    return (
        _apply_critic(critic, draw_network(fresh)).mean() - _apply_critic(critic, g[half:]).mean()
    )


def _initial_critic(key: Key, num_values: int) -> Critic:
    """Draw a critic with two hidden layers: weights with Glorot's scale, biases N(0, 1)."""
    sizes = (num_values, WIDTH, WIDTH, 1)
    layers = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        weight_key, bias_key = jax.random.split(jax.random.fold_in(key, i))
        weight = jax.random.normal(weight_key, (a, b)) * (2 / (a + b)) ** 0.5
        layers.append((weight, jax.random.normal(bias_key, (b,))))
    return layers


def _apply_critic(critic: Critic, f: jax.Array) -> jax.Array:
    """Return phi(f), shape (functions,)."""
    for weight, bias in critic[:-1]:
        f = jax.nn.softplus(f @ weight + bias[None, :])
    weight, bias = critic[-1]
    return (f @ weight + bias[None, :])[:, 0]


def _train_critic(critic: Critic, f: jax.Array, g: jax.Array, key: Key) -> Critic:
    """Train the critic by `INNER` steps of Adagrad on one bag of functions."""
    import optax

    optimizer = optax.adagrad(RATE)

    def loss(critic: Critic, key: Key) -> jax.Array:
        share = jax.random.uniform(key, (len(f), 1))
        middle = share * f + (1 - share) * g
        slope = jax.vmap(jax.grad(lambda one: _apply_critic(critic, one[None, :])[0]))(middle)
        penalty = ((jnp.linalg.norm(slope, axis=1) - 1) ** 2).mean()
        return _apply_critic(critic, g).mean() - _apply_critic(critic, f).mean() + PENALTY * penalty

    def step(carry: tuple, key: Key) -> tuple:
        critic, state = carry
        updates, state = optimizer.update(jax.grad(loss)(critic, key), state)
        return (optax.apply_updates(critic, updates), state), None

    (critic, _), _ = jax.lax.scan(
        step, (critic, optimizer.init(critic)), jax.random.split(key, INNER)
    )
    return critic
