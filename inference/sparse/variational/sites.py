"""The family of q, and the terms of the ELBO.

    q(w) = prod_active N(w_i; mean_i, sd_i^2), all other weights being zero,
    ELBO = E_q[log p(y | w, z)] - KL(q(w) || p(w)) + E_q[log p(z) - log q(z)] + log p(b).

The prior of the active weights is the model's, made wider by 1 / sqrt(share of its inputs that a unit sums), so that a unit
keeps its prior variance. Biases b are points, as in maximum a posteriori, unless asked otherwise; all other sites z (scales of
hierarchical priors, the noise) have independent normal distributions in unconstrained space. So this is a bound on log p(y, b)
of the network whose other weights are zero, and on its evidence log p(y) where biases are normal too.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.distributions import Distribution, ExpandedDistribution, Independent, Normal, biject_to

from inference.core.keys import named_key
from inference.core.problem import Problem
from inference.core.program import Subsampled, WholePlates
from inference.core.structure import AbstractProduct, LayeredNetwork
from inference.distributions.bursts import Bursts
from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.support import log_prior
from inference.sparse.products.sparse_product import Ignored, normals

NORMAL_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
START_DRAWS = 16  # of the prior, whose mean is where the normal sites start


class Prior(NamedTuple):
    """Of the weights of a layer: w / scale has the law, each by itself or, with bursts, all together."""

    law: Distribution
    scale: Any

    @property
    def sd(self) -> Any:
        """The standard deviation; the scale of laws that have none, such as Student's t with two degrees of freedom."""
        variance = jnp.asarray(self.law.variance).reshape(-1)[0]
        return (
            jnp.where(jnp.isfinite(variance), jnp.sqrt(variance), getattr(self.law, "scale", 1.0))
            * self.scale
        )


class Joint(NamedTuple):
    """Parts of the log joint density.

    Attributes:
        likelihood: log p(y | w, z), for all rows.
        sites: log p of all latent sites that are not weights.
        priors: of the weights of each layer.
    """

    likelihood: Any
    sites: Any
    priors: dict[str, Prior]


def softplus_inverse(x: float) -> float:
    """The raw value of a scale x."""
    return math.log(math.expm1(x))


def scale_of(raw: Any) -> Any:
    """The scale of a raw value: log(1 + exp(raw))."""
    return jax.nn.softplus(raw)


def entry_law(law: Distribution) -> Distribution | None:
    """The law of one entry of an array whose entries are independent and alike, or of bursts; None for other arrays."""
    if isinstance(law, Bursts):
        return law
    while isinstance(law, Independent | ExpandedDistribution):
        law = law.base_dist
    return law if law.batch_shape == () and law.event_shape == () else None


@dataclasses.dataclass(frozen=True, eq=False)
class Sites:
    """The latent sites of a problem by what q does with them.

    Attributes:
        problem: with a `LayeredNetwork`.
        biases: "point" or "normal".
    """

    problem: Problem
    biases: str

    @functools.cached_property
    def network(self) -> LayeredNetwork:
        return self.problem.structure_as(LayeredNetwork)

    @functools.cached_property
    def weights(self) -> dict[str, str]:
        """The latent site behind each matrix of weights, by the name that the network sees."""
        return {
            seen: latent
            for latent, seen in self.network.weights.items()
            if seen in self.network.matrices
        }

    @functools.cached_property
    def points(self) -> tuple[str, ...]:
        if self.biases != "point":
            return ()
        weights = self.weights.values()
        return tuple(
            s for s in self.problem.latents if s in self.network.weights and s not in weights
        )

    @functools.cached_property
    def normals(self) -> tuple[str, ...]:
        return tuple(
            s
            for s in self.problem.latents
            if s not in self.points and s not in self.weights.values()
        )

    def transform(self, site: str) -> Any:
        """From unconstrained space to that of a site."""
        return biject_to(self.problem.trace[site]["fn"].support)

    def start(self, key: jax.Array) -> dict[str, jax.Array]:
        """Unconstrained values of the normal sites: means of draws from the prior."""
        density = self.problem.log_density()

        def one(key: jax.Array) -> dict[str, jax.Array]:
            drawn = density.prior_draw(key)
            return {name: drawn[name] for name in self.normals}

        return jax.tree.map(
            lambda leaf: leaf.mean(0), jax.jit(jax.vmap(one))(jax.random.split(key, START_DRAWS))
        )

    def joint(
        self,
        values: Mapping[str, Any],
        product: AbstractProduct,
        rows: Any,
        args: tuple,
        kwargs: Mapping,
    ) -> Joint:
        """The log joint density where the network multiplies by a product.

        Args:
            values: of all sites but weights, in their own space.
            product: that knows the weights.
            rows: numbers of rows of a minibatch, or None for all of them.
            args: of the program.
            kwargs: of the program.
        """
        assert self.network.with_product is not None
        program: Any = WholePlates(self.network.with_product(product))
        plate, total = self.problem.data_plate
        if rows is not None and len(rows) < total:
            program = Subsampled(program, plate, len(rows), rows)
        # ones: what the network sees is then the scale of its prior; the product does not look at it
        ones = {site: jnp.ones(self.problem.latents[site]) for site in self.weights.values()}
        program = handlers.substitute(program, data=ones | dict(values))
        sites = handlers.trace(program).get_trace(*args, **kwargs)
        likelihood, rest = jnp.zeros(()), jnp.zeros(())
        for name, site in sites.items():
            if site["type"] != "sample" or name in ones:
                continue
            term = site["fn"].log_prob(site["value"])
            term = term.sum() if site["scale"] is None else (site["scale"] * term).sum()
            likelihood, rest = (
                (likelihood + term, rest) if site["is_observed"] else (likelihood, rest + term)
            )
        priors = {}
        for seen, latent in self.weights.items():
            law = entry_law(sites[latent]["fn"])
            assert law is not None  # `supports` has refused it
            priors[seen] = Prior(
                law, 1.0 if seen == latent else sites[seen]["value"].reshape(-1)[0]
            )
        return Joint(likelihood, rest, priors)

    def priors(self, layout: Layout, values: Mapping[str, Any]) -> dict[str, Prior]:
        """The priors of the layers' weights, given all other sites."""
        problem = self.problem
        return self.joint(
            values, Ignored(layout), jnp.zeros(1, jnp.int32), problem.args, problem.kwargs
        ).priors


def prior_sds(layout: Layout, store: str, index: Any, priors: Mapping[str, Prior]) -> Any:
    """The prior's sd of each stored weight."""
    found = jnp.ones(layout.patterns[store].values_shape)
    for layer, mask in layout.member_masks(store, index):
        found = jnp.where(mask, widened(priors[layer], layout, layer).sd, found)
    return found


def kl_of_weights(
    layout: Layout,
    index: Mapping,
    mean: Mapping,
    sd: Mapping,
    priors: Mapping[str, Prior],
    key: Any,
) -> Any:
    """KL(q(w) || p(w)) over the active weights: in closed form for normal priors and bursts, otherwise by one draw."""
    total = jnp.zeros(())
    for store, pattern in layout.patterns.items():
        for layer, mask in layout.member_masks(store, index[store]):
            prior = widened(priors[layer], layout, layer)
            if isinstance(prior.law, Bursts):
                entropy = jnp.where(mask, NORMAL_ENTROPY + jnp.log(sd[store]), 0.0).sum()
                second = mean[store] ** 2 + sd[store] ** 2
                total = (
                    total
                    - entropy
                    - log_prior(prior.law, prior.scale, pattern, index[store], second, mask)
                )
                continue
            term = kl_of_entries(mean[store], sd[store], prior, named_key(key, store))
            total = total + jnp.where(mask, term, 0.0).sum()
    return total


def widened(prior: Prior, layout: Layout, layer: str) -> Prior:
    """The prior of the active weights of a layer; see the module's docstring."""
    return Prior(prior.law, prior.scale / math.sqrt(layout.shares[layer]))


def kl_of_entries(mean: Any, sd: Any, prior: Prior, key: Any) -> Any:
    """KL of each N(mean, sd^2) from the prior."""
    law, scale = prior
    if isinstance(law, Normal):
        s, m = law.scale * scale, law.loc * scale
        return jnp.log(s / sd) + (sd**2 + (mean - m) ** 2) / (2 * s**2) - 0.5
    w = mean + sd * normals(key, "kl", mean)
    return -NORMAL_ENTROPY - jnp.log(sd) - (law.log_prob(w / scale) - jnp.log(scale))
