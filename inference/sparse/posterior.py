"""The fitted q as an approximation whose draws are kept as the values of active weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.problem import Problem
from inference.core.result import (
    AbstractApproximation,
    AbstractPredictive,
    Conditional,
    Judge,
    PredictiveModel,
)
from inference.core.typing import AnyArray, Info, Key, SiteArrays, StoredArrays
from inference.distributions.bursts import Bursts
from inference.process.cached import cached
from inference.renaming import warn_renamed
from inference.sharing import compile_over_keys
from inference.sparse.decompression import SparseDecompression
from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.support import log_prior
from inference.sparse.products.sparse_product import SparseProduct, store_noise
from inference.sparse.training.training import State
from inference.sparse.variational.priors import Prior, active_prior
from inference.sparse.variational.sites import Joint, ProblemSites, scale_of

ROWS = 1024
"""The number of rows of the data that a log weight computes at once."""

MAX_PRODUCTS = 2e12
"""The number of products of weights and rows that a thousand log weights may cost."""


def params_from_state(state: State) -> StoredArrays:
    """Return the result of a run as arrays by name.

    Stores have index, mean and scale; points have a point; normal sites have loc and scale.
    """
    found: dict[str, AnyArray] = {f"{store}/index": index for store, index in state.index.items()}
    for store, leaf in state.params["weights"].items():
        found |= {f"{store}/mean": leaf["mean"], f"{store}/scale": scale_of(leaf["raw"])}
    found |= {f"{site}/point": value for site, value in state.params["points"].items()}
    for site, leaf in state.params["normals"].items():
        found |= {f"{site}/loc": leaf["loc"], f"{site}/scale": scale_of(leaf["raw"])}
    return {name: np.asarray(value) for name, value in found.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class FittedDistribution:
    """The functions of a fitted q, which take its parameters.

    Attributes:
        sites: the latent sites of the problem.
        layout: the stores of the network.
    """

    sites: ProblemSites
    layout: Layout

    def store_arrays(self, params: Mapping[str, AnyArray], part: str) -> SiteArrays:
        """Return one array of each store: its "index", "mean" or "scale"."""
        return {name: jnp.asarray(params[f"{name}/{part}"]) for name in self.layout.patterns}

    def draw_compressed(self, key: Key, params: Mapping[str, AnyArray]) -> SiteArrays:
        """Draw the active weights and all other sites."""
        mean, sd = self.store_arrays(params, "mean"), self.store_arrays(params, "scale")
        drawn = {name: mean[name] + sd[name] * store_noise(key, name, mean[name]) for name in mean}
        return drawn | self.draw_other_sites(key, params)[0]

    def draw_other_sites(
        self, key: Key, params: Mapping[str, AnyArray]
    ) -> tuple[SiteArrays, jax.Array]:
        """Draw the sites that are not weights, and return their log density under q too."""
        values: dict[str, Any] = {
            name: jnp.asarray(params[f"{name}/point"]) for name in self.sites.points
        }
        density = jnp.zeros(())
        for name in self.sites.normals:
            loc, sd = jnp.asarray(params[f"{name}/loc"]), jnp.asarray(params[f"{name}/scale"])
            noise, transform = store_noise(key, name, loc), self.sites.transform(name)
            u = loc + sd * noise
            values[name] = transform(u)
            slope = jnp.sum(transform.log_abs_det_jacobian(u, values[name]))
            density = density + (jax.scipy.stats.norm.logpdf(noise) - jnp.log(sd)).sum() - slope
        return values, density

    def decompression(self, params: Mapping[str, AnyArray]) -> SparseDecompression:
        """Return the map from compressed draws to all sites."""
        return SparseDecompression(
            dict(self.store_arrays(params, "index")), self.layout, self.sites
        )

    def sample(self, key: Key, params: Mapping[str, AnyArray]) -> SiteArrays:
        """Draw all sites."""
        return self.decompression(params)(self.draw_compressed(key, params))

    def log_weight(self, key: Key, params: Mapping[str, AnyArray]) -> jax.Array:
        """Return log p(y, w, z) - log q(w, z) at one draw."""
        values, density = self.draw_other_sites(key, params)
        drawn = self.draw_compressed(key, params)
        joint = self.joint_of_all_rows(key, params, drawn, values)
        density = self.add_log_ratio(density, params, drawn, joint.priors)
        return joint.likelihood + joint.sites - density

    def joint_of_all_rows(
        self,
        key: Key,
        params: Mapping[str, AnyArray],
        drawn: Mapping[str, AnyArray],
        values: Mapping[str, AnyArray],
    ) -> Joint:
        """Return the log joint density at one draw, computed for `ROWS` rows at a time.

        Args:
            key: the key of the draw.
            params: the parameters of q.
            drawn: the values of the active weights.
            values: the values of the other sites.
        """
        index, sd = self.store_arrays(params, "index"), self.store_arrays(params, "scale")
        weights = {name: drawn[name] for name in self.layout.patterns}
        no_noise = {name: jnp.zeros_like(value) for name, value in sd.items()}
        problem = self.sites.problem
        total = problem.data_plate[1]

        def joint_of(rows: AnyArray) -> Joint:
            product = SparseProduct(self.layout, index, weights, no_noise, key, "weights")
            joint = self.sites.joint(values, product, rows, problem.args, problem.kwargs)
            return joint._replace(likelihood=joint.likelihood * len(rows) / total)

        cut = total - total % ROWS
        if cut < total:
            joint = joint_of(jnp.arange(cut, total))
            likelihood = joint.likelihood
        else:
            joint, likelihood = joint_of(jnp.arange(ROWS)), jnp.zeros(())
        if cut:
            blocks = jnp.arange(cut).reshape(-1, ROWS)
            likelihood += jax.lax.map(lambda rows: joint_of(rows).likelihood, blocks).sum()
        return joint._replace(likelihood=likelihood)

    def add_log_ratio(
        self,
        density: jax.Array,
        params: Mapping[str, AnyArray],
        drawn: Mapping[str, AnyArray],
        priors: Mapping[str, Prior],
    ) -> jax.Array:
        """Return `density` plus log q(w) - log p(w) of the active weights.

        Args:
            density: the log density of the other sites.
            params: the parameters of q.
            drawn: the values of the active weights.
            priors: the prior of each layer.
        """
        index, mean, sd = (self.store_arrays(params, part) for part in ("index", "mean", "scale"))
        for store, pattern in self.layout.patterns.items():
            noise = (drawn[store] - mean[store]) / sd[store]
            log_q = jax.scipy.stats.norm.logpdf(noise) - jnp.log(sd[store])
            for layer, mask in self.layout.member_masks(store, index[store]):
                prior, scale = active_prior(priors[layer], self.layout, layer)
                density = density + jnp.where(mask, log_q, 0.0).sum()
                if isinstance(prior, Bursts):
                    second = drawn[store] ** 2
                    log_p = log_prior(prior, scale, pattern, index[store], second, mask)
                else:
                    each = prior.log_prob(drawn[store] / scale) - jnp.log(scale)
                    log_p = jnp.where(mask, each, 0.0).sum()
                density = density - log_p
        return density


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SparseApproximation(AbstractApproximation):
    """A fitted sparse network, whose draws are kept as the values of its active weights.

    Attributes:
        params: the fitted parameters by name: index, mean and scale of each store, points, loc and
            scale of normal sites.
        draw: a function of (key, params) that makes one draw of the program's sites.
        log_weight: a function of (key, params) that returns log p(y, z) - log q(z) at one draw.
        losses: the objective at each step, shape (steps,).
        info: facts about the run as plain data.
        num_draws: the number of draws that predictions use.
        draw_compressed: a function of (key, params) that makes one draw of the active weights and
            of all other sites.
        decompression: the map from a compressed draw to the sites of the program.
        weighable: whether a thousand log weights can be computed in a minute or so.
    """

    draw_compressed: Callable[..., SiteArrays]
    decompression: SparseDecompression
    weighable: bool

    @property
    def judged_by(self) -> Judge:
        return "importance weights" if self.weighable else "engine"

    def predictive(self, problem: Problem, model: PredictiveModel) -> AbstractPredictive:
        return DecompressedPredictive(model.predictive(problem), self.decompression)

    def latent_draws(
        self, key: Key, latents: Collection[str], samples: Callable[[], StoredArrays]
    ) -> StoredArrays:
        """Return compressed draws, which the predictive decompresses one by one."""
        return jax.tree.map(np.asarray, self.sample_compressed(key, self.num_draws))

    def sample_compressed(self, key: Key, num_samples: int) -> SiteArrays:
        """Make the draws of `sample` in their compressed form."""
        return self._many_compressed(jax.random.split(key, num_samples), self.params)

    @cached
    def _many_compressed(self) -> Callable:
        return compile_over_keys(self.draw_compressed)

    # Names of earlier versions, which go away with the next one.

    @property
    def packed(self) -> Callable[..., SiteArrays]:
        """The old name of `draw_compressed`."""
        warn_renamed("post.raw.packed", "post.raw.draw_compressed")
        return self.draw_compressed

    @property
    def unpacking(self) -> SparseDecompression:
        """The old name of `decompression`."""
        warn_renamed("post.raw.unpacking", "post.raw.decompression")
        return self.decompression

    def packed_sample(self, key: Key, num_samples: int) -> SiteArrays:
        """Call `sample_compressed` under its old name."""
        warn_renamed("post.raw.packed_sample", "post.raw.sample_compressed")
        return self.sample_compressed(key, num_samples)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class DecompressedPredictive(AbstractPredictive):
    """A predictive that takes compressed draws.

    Attributes:
        predictive: the predictive, which takes draws of the program's sites.
        decompression: the map from a compressed draw to these sites.
    """

    predictive: AbstractPredictive
    decompression: SparseDecompression

    def __call__(self, latents: dict, key: Key, *args: Any, **kwargs: Any) -> Conditional:
        return self.predictive(self.decompression(latents), key, *args, **kwargs)


def build_approximation(
    sites: ProblemSites,
    layout: Layout,
    params: dict,
    losses: np.ndarray,
    info: Info,
    num_draws: int,
) -> SparseApproximation:
    """Return the result of SSVI.

    Args:
        sites: the latent sites of the problem.
        layout: the stores of the network.
        params: the fitted parameters by name.
        losses: the objective at each step.
        info: facts about the run.
        num_draws: the number of draws that predictions use.
    """
    fitted = FittedDistribution(sites, layout)
    weights = sum(np.prod(shape) for shape in layout.shapes.values())
    products = 1000.0 * sites.problem.data_plate[1] * weights
    return SparseApproximation(
        params,
        draw=fitted.sample,
        log_weight=fitted.log_weight,
        losses=losses,
        info=info,
        num_draws=num_draws,
        draw_compressed=fitted.draw_compressed,
        decompression=fitted.decompression(params),
        weighable=bool(products <= MAX_PRODUCTS),
    )
