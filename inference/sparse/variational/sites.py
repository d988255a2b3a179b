"""The latent sites of a problem by what q does with them, and the log joint density.

    q(w) = prod_active N(w_i; mean_i, sd_i^2), all other weights being zero,
    ELBO = E_q[log p(y | w, z)] - KL(q(w) || p(w)) + E_q[log p(z) - log q(z)] + log p(b).

The prior of active weights is wider than the model's; see `priors.py`. Biases b are points, as in
maximum a posteriori, unless asked otherwise; all other sites z (scales of hierarchical priors, the
noise) have independent normal distributions in unconstrained space. So this is a bound on
log p(y, b) of the network whose other weights are zero, and on its evidence log p(y) where biases
are normal too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.distributions.transforms import Transform

from inference.core.problem import Problem
from inference.core.program import Subsampled, WholePlates
from inference.core.structure import AbstractProduct, LayeredNetwork
from inference.core.typing import AnyArray, Arguments, Key, KeywordArguments, Program, SiteArrays
from inference.process.cached import cached
from inference.sparse.patterns.layout import Layout
from inference.sparse.products.sparse_product import ZeroProduct
from inference.sparse.variational.priors import Prior, entry_distribution

START_DRAWS = 16
"""The number of draws from the prior whose mean is where the normal sites start."""


class Joint(NamedTuple):
    """The parts of the log joint density.

    Attributes:
        likelihood: log p(y | w, z), for all rows.
        sites: log p of all latent sites that are not weights.
        priors: the priors of the weights of each layer.
    """

    likelihood: jax.Array
    sites: jax.Array
    priors: dict[str, Prior]


def softplus_inverse(x: float) -> float:
    """Return the raw value of a scale x."""
    return math.log(math.expm1(x))


def scale_of(raw: AnyArray) -> jax.Array:
    """Return the scale of a raw value: log(1 + exp(raw))."""
    return jax.nn.softplus(raw)


@dataclasses.dataclass(frozen=True, eq=False)
class ProblemSites:
    """The latent sites of a problem by what q does with them.

    Attributes:
        problem: the problem, which offers a `LayeredNetwork`.
        biases: what q is for biases, "point" or "normal".
    """

    problem: Problem
    biases: str

    @cached
    def network(self) -> LayeredNetwork:
        """The network that the problem offers."""
        return self.problem.structure_as(LayeredNetwork)

    @cached
    def weights(self) -> dict[str, str]:
        """The latent site behind each matrix of weights, by the name that the network sees."""
        return {
            seen: latent
            for latent, seen in self.network.weights.items()
            if seen in self.network.matrices
        }

    @cached
    def points(self) -> tuple[str, ...]:
        """The sites for which q is a point."""
        if self.biases != "point":
            return ()
        weights = self.weights.values()
        return tuple(
            site
            for site in self.problem.latents
            if site in self.network.weights and site not in weights
        )

    @cached
    def normals(self) -> tuple[str, ...]:
        """The sites for which q is normal in unconstrained space, and which are not weights."""
        return tuple(
            site
            for site in self.problem.latents
            if site not in self.points and site not in self.weights.values()
        )

    def transform(self, site: str) -> Transform:
        """Return the transform from unconstrained space to that of a site."""
        return biject_to(self.problem.trace[site]["fn"].support)

    def initial_normals(self, key: Key) -> SiteArrays:
        """Return unconstrained values of the normal sites: means of draws from the prior."""
        density = self.problem.log_density()

        def draw(key: Key) -> SiteArrays:
            drawn = density.prior_draw(key)
            return {name: drawn[name] for name in self.normals}

        draws = jax.jit(jax.vmap(draw))(jax.random.split(key, START_DRAWS))
        return jax.tree.map(lambda leaf: leaf.mean(0), draws)

    def joint(
        self,
        values: Mapping[str, ArrayLike],
        product: AbstractProduct,
        rows: AnyArray | None,
        args: Arguments,
        kwargs: KeywordArguments,
    ) -> Joint:
        """Return the log joint density where the network multiplies by a product.

        Args:
            values: the values of all sites but weights, in their own space.
            product: the product, which knows the weights.
            rows: the numbers of the rows of a minibatch, or None for all rows.
            args: the positional arguments of the program.
            kwargs: the keyword arguments of the program.
        """
        assert self.network.with_product is not None
        program: Program = WholePlates(self.network.with_product(self.problem.program, product))
        plate, total = self.problem.data_plate
        if rows is not None and len(rows) < total:
            program = Subsampled(program, plate, len(rows), jnp.asarray(rows))
        # ones: what the network sees is then the scale of its prior; the product ignores it
        ones = {site: jnp.ones(self.problem.latents[site]) for site in self.weights.values()}
        fixed: dict[str, Any] = {**ones, **values}
        program = handlers.substitute(program, data=fixed)
        sites = handlers.trace(program).get_trace(*args, **kwargs)
        likelihood, rest = jnp.zeros(()), jnp.zeros(())
        for name, site in sites.items():
            if site["type"] != "sample" or name in ones:
                continue
            term = site["fn"].log_prob(site["value"])
            term = term.sum() if site["scale"] is None else (site["scale"] * term).sum()
            if site["is_observed"]:
                likelihood = likelihood + term
            else:
                rest = rest + term
        priors = {}
        for seen, latent in self.weights.items():
            distribution = entry_distribution(sites[latent]["fn"])
            # `supports` has refused other priors
            assert distribution is not None
            scale = 1.0 if seen == latent else sites[seen]["value"].reshape(-1)[0]
            priors[seen] = Prior(distribution, scale)
        return Joint(likelihood, rest, priors)

    def priors(self, layout: Layout, values: Mapping[str, ArrayLike]) -> dict[str, Prior]:
        """Return the priors of the layers' weights, given all other sites."""
        problem, one_row = self.problem, jnp.zeros(1, jnp.int32)
        joint = self.joint(values, ZeroProduct(layout), one_row, problem.args, problem.kwargs)
        return joint.priors
