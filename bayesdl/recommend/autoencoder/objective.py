"""The evidence bound of autoencoders for collaborative filtering, a mean over a batch of users:

    E_q[log p(x | z)] - beta KL(q(z | x) || p(z)),      z = mu + sigma e,  e ~ N(0, I)

With beta < 1 its optimum for a user is the posterior under the likelihood to the power 1 / beta.

Priors of z: "normal" is N(0, I). "vamp" is the mixture of q(z | u_k) over learned users u_k.
"composite" is 3/20 N(0, I) + 3/4 q_old(z | x) + 1/10 N(0, e^10 I), where q_old is the encoder as it
was an epoch ago.

References: Liang et al. (2018), arXiv:1802.05814; Tomczak and Welling (2018), arXiv:1705.07120;
Shenbin et al. (2020), arXiv:1912.11160.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bayesdl.recommend.autoencoder.likelihoods import (
    LIKELIHOODS,
    multinomial_in_blocks,
    sum_by_user,
)
from bayesdl.recommend.autoencoder.network import Network, Weights
from bayesdl.recommend.rows import AnyArray, Entries
from bayesdl.typing import ItemLikelihood, TastePrior
from inference.core.keys import named_key

PRIORS = ("normal", "vamp", "composite")
# Learned users of the prior "vamp".
COMPONENTS = 64
# The shares of the parts of the prior "composite".
COMPOSITE_SHARES = (0.15, 0.75, 0.10)
# The log variance of the wide part of the prior "composite".
WIDE_LOG_VARIANCE = 10.0


@dataclasses.dataclass(frozen=True)
class Objective:
    """The function of the weights that training minimises.

    Attributes:
        network: the encoder and the decoder.
        likelihood: a key of `LIKELIHOODS`.
        prior: one of `PRIORS`.
        weight_decay: the factor of the sum of squared weights, biases left out.
        item_block: the number of items whose scores are in memory at a time; None for all.
    """

    network: Network
    likelihood: ItemLikelihood
    prior: TastePrior
    weight_decay: float
    item_block: int | None

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Draw parameters for the start."""
        params = self.network.init(named_key(key, "network"))
        if self.prior == "vamp":
            params["pseudo"] = jax.random.normal(
                named_key(key, "pseudo"), (COMPONENTS, self.network.num_items)
            )
        return params

    def loss(
        self, params: Weights, old: Weights, x: Entries, beta: ArrayLike, key: jax.Array | None
    ) -> jax.Array:
        """Return minus the bound, plus the penalty.

        Args:
            params: the parameters of network and prior.
            old: the same parameters an epoch ago, for the prior "composite".
            x: a batch of users.
            beta: the factor of the divergence, a number or one for each user.
            key: the key of dropout and noise; None for neither, z = mu.
        """
        code = self.network.encode(params, x, None if key is None else named_key(key, "dropout"))
        z = code[0]
        if key is not None and self.network.stochastic:
            z = draw_normal(named_key(key, "z"), *code)
        bound = self.log_likelihood(params, z, x) - beta * self.divergence(params, old, code, z, x)
        penalty = sum(
            jnp.sum(value**2) for name, value in params.items() if name.endswith(".weight")
        )
        return -(x.present * bound).sum() / x.present.sum() + self.weight_decay * penalty

    def log_likelihood(self, params: Weights, z: AnyArray, x: Entries) -> jax.Array:
        """Return log p(x | z) of each user, shape (b,)."""
        if self.item_block is None:
            return LIKELIHOODS[self.likelihood](self.network.decode(params, z), x)
        return multinomial_in_blocks(
            self.network.last_hidden(params, z),
            *self.network.item_layer(params),
            x,
            self.item_block,
        )

    def divergence(
        self,
        params: Weights,
        old: Weights,
        code: tuple[AnyArray, AnyArray],
        z: AnyArray,
        x: Entries,
    ) -> jax.Array:
        """Return KL(q || p) of each user, shape (b,).

        Where it has no closed form, it is log q(z) - log p(z).

        Args:
            params: the parameters of network and prior.
            old: the same parameters an epoch ago.
            code: mean and log variance of q, shape (b, latent).
            z: a draw of q, shape (b, latent).
            x: the batch of users.
        """
        mean, log_variance = code
        if not self.network.stochastic:
            return jnp.zeros(len(mean))
        if self.prior == "normal":
            return (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(1) / 2
        return _log_normal_density(z, mean, log_variance) - self.log_prior(params, old, z, x)

    def log_prior(self, params: Weights, old: Weights, z: AnyArray, x: Entries) -> jax.Array:
        """Return log p(z) of each user, shape (b,)."""
        if self.prior == "vamp":
            return self.log_vamp_prior(params, z)
        zero = jnp.zeros_like(z)
        if self.prior == "normal":
            return _log_normal_density(z, zero, zero)
        parts = (
            _log_normal_density(z, zero, zero),
            _log_normal_density(z, *self.network.encode(old, x)),
            _log_normal_density(z, zero, zero + WIDE_LOG_VARIANCE),
        )
        weighted = jnp.stack(parts, 1) + jnp.log(jnp.array(COMPOSITE_SHARES))[None]
        return jax.nn.logsumexp(weighted, axis=1)

    def log_vamp_prior(self, params: Weights, z: AnyArray) -> jax.Array:
        """Return the log density of the mixture over learned users, shape (b,)."""
        u = jax.nn.sigmoid(params["pseudo"])
        inputs = u / jnp.linalg.norm(u, axis=1, keepdims=True)
        h = inputs @ params["encoder0.weight"] + params["encoder0.bias"][None]
        means, log_variances = self.network.encode_from(params, h)
        each = _log_normal_density(z[:, None], means[None], log_variances[None])
        return jax.nn.logsumexp(each, axis=1) - math.log(COMPONENTS)

    def bound(
        self,
        params: Weights,
        code: tuple[AnyArray, AnyArray],
        x: Entries,
        beta: ArrayLike,
        noise: AnyArray,
    ) -> jax.Array:
        """Return the bound of each user at a given q and noise, shape (b,), for refinement.

        Args:
            params: the parameters of network and prior.
            code: mean and log variance of q, shape (b, latent).
            x: the batch of users.
            beta: the factor of the divergence, a number or one for each user.
            noise: standard normal numbers, shape (1 or b, latent).
        """
        z = code[0] + jnp.exp(code[1] / 2) * noise
        return self.log_likelihood(params, z, x) - beta * self.divergence(
            params, params, code, z, x
        )


def draw_normal(key: jax.Array, mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Draw from N(mean, exp(log_variance)) for each user."""
    return mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)


def _log_normal_density(z: AnyArray, mean: AnyArray, log_variance: AnyArray) -> jax.Array:
    """Return the log density of independent normal numbers, summed over the last axis."""
    terms = log_variance + (z - mean) ** 2 * jnp.exp(-log_variance) + math.log(2 * math.pi)
    return -terms.sum(-1) / 2


def entry_totals(x: Entries) -> jax.Array:
    """Return N, the sum of the entries of each user, shape (b,)."""
    return sum_by_user(x.value, x)
