"""The kernel of a wide network under layer-wise normal weights, and a start from it.

    K_0 = s_0^2 gain_0^2 X X' + b_0^2
    K_l = s_l^2 gain_l^2 H E[a(u) a(v)] + b_l^2,    (u, v) ~ N(0, K_{l-1})

(Neal 1996; Lee et al. 2018, arXiv:1711.00165; with gain^2 fan_in = 1 under NTK scaling). The
expectation has a closed form (`bayesdl.gp.wide.activations`). Functions of wide networks are
normal, so that the Bures distance to the target's covariance needs no draws.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from bayesdl.functional.losses import bures_distance
from bayesdl.gp.wide.activations import find_activation
from bayesdl.priors.base import WeightArray
from bayesdl.priors.layers import LayerGaussian
from inference.core.typing import SiteArrays

STEPS = 60


def wide_network_covariance(
    prior: LayerGaussian, arrays: tuple[WeightArray, ...], activation: str, X: jax.Array
) -> jax.Array:
    """Return the kernel matrix at rows X of the network in the limit of wide layers."""
    phi = find_activation(activation)
    weights, biases = arrays[0::2], arrays[1::2]
    scales = [
        (prior.scale(w) ** 2 * w.gain**2 * w.fan_in, prior.scale(b) ** 2)
        for w, b in zip(weights, biases, strict=True)
    ]
    slope, offset = scales[0]
    K = slope * X @ X.T / X.shape[1] + offset
    for slope, offset in scales[1:]:
        variances = jnp.diag(K)
        K = slope * phi.product(variances[:, None], variances[None, :], K) + offset
    return K


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def warm_start(
    blank: LayerGaussian,
    arrays: tuple[WeightArray, ...],
    activation: str,
    X: jax.Array,
    goal: jax.Array,
) -> SiteArrays:
    """Return parameters of a `LayerGaussian` whose wide-network kernel is near a covariance.

    Args:
        blank: a prior that is the start of the search.
        arrays: the network's arrays of weights.
        activation: the activation of its hidden layers.
        X: the rows of inputs.
        goal: the covariance at these rows; nearness is by the Bures distance.
    """
    import optax

    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, STEPS))

    def loss(parameters: SiteArrays) -> jax.Array:
        K = wide_network_covariance(blank.with_params(parameters), arrays, activation, X)
        return bures_distance(K, goal)

    def step(carry: tuple, _: None) -> tuple:
        parameters, state = carry
        updates, state = optimizer.update(jax.grad(loss)(parameters), state)
        return (optax.apply_updates(parameters, updates), state), None

    start = blank.initialised(arrays).parameters()
    return jax.lax.scan(step, (start, optimizer.init(start)), length=STEPS)[0][0]
