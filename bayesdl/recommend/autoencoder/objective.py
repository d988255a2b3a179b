"""The evidence bound of variational autoencoders for collaborative filtering, a mean over the users of a batch:

    E_q[log p(x | z)] - beta KL(q(z | x) || p(z)),      z = mu + sigma e,  e ~ N(0, I)

With beta < 1 its optimum for a user is the posterior under the likelihood to the power 1 / beta. Priors of z: "normal", N(0,
I); "vamp", the mixture of q(z | u_k) over learned users u_k; "composite", 3/20 N(0, I) + 3/4 q_old(z | x) + 1/10 N(0, e^10 I),
with the encoder as it was an epoch ago. References: Liang et al. (2018), arXiv:1802.05814; Tomczak and Welling (2018),
arXiv:1705.07120; Shenbin et al. (2020), arXiv:1912.11160.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from bayesdl.recommend.autoencoder.likelihoods import LIKELIHOODS, multinomial_in_blocks, of_entries
from bayesdl.recommend.autoencoder.network import Network
from bayesdl.recommend.rows import Entries
from inference.core.keys import named_key

PRIORS = ("normal", "vamp", "composite")
COMPONENTS = 64  # learned users of the prior "vamp"
SHARES, WIDE = (
    (0.15, 0.75, 0.10),
    10.0,
)  # of the prior "composite"; the log variance of its wide part


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is minimised.

    Attributes:
        network: encoder and decoder.
        likelihood: a key of `LIKELIHOODS`.
        prior: one of `PRIORS`.
        weight_decay: times the sum of squared weights, biases left out.
        item_block: items whose scores are in memory at a time, or None for all.
    """

    network: Network
    likelihood: str
    prior: str
    weight_decay: float
    item_block: int | None

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Parameters at the start."""
        params = self.network.init(named_key(key, "network"))
        if self.prior == "vamp":
            params["pseudo"] = jax.random.normal(
                named_key(key, "pseudo"), (COMPONENTS, self.network.num_items)
            )
        return params

    def loss(
        self, params: dict, old: dict, x: Entries, beta: Any, key: jax.Array | None
    ) -> jax.Array:
        """Minus the bound, plus the penalty.

        Args:
            params: of network and prior.
            old: the same an epoch ago, for the prior "composite".
            x: a batch of users.
            beta: of the bound, a number or one for each user.
            key: of dropout and noise; None for neither, z = mu.
        """
        code = self.network.encode(params, x, None if key is None else named_key(key, "dropout"))
        z = (
            code[0]
            if key is None or not self.network.stochastic
            else drawn(named_key(key, "z"), *code)
        )
        bound = self.log_likelihood(params, z, x) - beta * self.divergence(params, old, code, z, x)
        penalty = sum(
            jnp.sum(value**2) for name, value in params.items() if name.endswith(".weight")
        )
        return -(x.present * bound).sum() / x.present.sum() + self.weight_decay * penalty

    def log_likelihood(self, params: dict, z: Any, x: Entries) -> jax.Array:
        """Log p(x | z) of each user, shape (b,)."""
        if self.item_block is None:
            return LIKELIHOODS[self.likelihood](self.network.decode(params, z), x)
        return multinomial_in_blocks(
            self.network.last_hidden(params, z),
            *self.network.item_layer(params),
            x,
            self.item_block,
        )

    def divergence(self, params: dict, old: dict, code: tuple, z: Any, x: Entries) -> jax.Array:
        """KL(q || p) of each user, shape (b,); log q(z) - log p(z) where it has no closed form."""
        mean, log_variance = code
        if not self.network.stochastic:
            return jnp.zeros(len(mean))
        if self.prior == "normal":
            return (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(1) / 2
        return log_normal(z, mean, log_variance) - self.log_prior(params, old, z, x)

    def log_prior(self, params: dict, old: dict, z: Any, x: Entries) -> jax.Array:
        """Log p(z) of each user, shape (b,)."""
        if self.prior == "vamp":
            u = jax.nn.sigmoid(params["pseudo"])
            h = (
                u / jnp.linalg.norm(u, axis=1, keepdims=True) @ params["encoder0.weight"]
                + params["encoder0.bias"][None]
            )
            means, log_variances = self.network.encode_from(params, h)
            each = log_normal(z[:, None], means[None], log_variances[None])
            return jax.nn.logsumexp(each, axis=1) - math.log(COMPONENTS)
        zero = jnp.zeros_like(z)
        if self.prior == "normal":
            return log_normal(z, zero, zero)
        parts = (
            log_normal(z, zero, zero),
            log_normal(z, *self.network.encode(old, x)),
            log_normal(z, zero, zero + WIDE),
        )
        return jax.nn.logsumexp(jnp.stack(parts, 1) + jnp.log(jnp.array(SHARES))[None], axis=1)

    def bound(self, params: dict, code: tuple, x: Entries, beta: Any, noise: Any) -> jax.Array:
        """The bound of each user at a q of one's own and this noise, shape (b,); for refinement."""
        z = code[0] + jnp.exp(code[1] / 2) * noise
        return self.log_likelihood(params, z, x) - beta * self.divergence(
            params, params, code, z, x
        )


def drawn(key: jax.Array, mean: Any, log_variance: Any) -> jax.Array:
    """A draw of N(mean, exp(log_variance)) for each user."""
    return mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)


def log_normal(z: Any, mean: Any, log_variance: Any) -> jax.Array:
    """The log density over the last axis."""
    return (
        -(log_variance + (z - mean) ** 2 * jnp.exp(-log_variance) + math.log(2 * math.pi)).sum(-1)
        / 2
    )


def totals(x: Entries) -> jax.Array:
    """N of each user, shape (b,)."""
    return of_entries(x.value, x)
