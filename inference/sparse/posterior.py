"""The fitted q as an `Approximation`, whose draws are kept as the values of active weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from inference.core.program import WholePlates
from inference.core.result import AbstractDecompression, Approximation
from inference.distributions.bursts import Bursts
from inference.sparse.patterns.layout import Layout
from inference.sparse.patterns.support import log_prior
from inference.sparse.products.sparse_product import Ignored, SparseProduct, normals
from inference.sparse.training.training import State
from inference.sparse.variational.sites import Sites, scale_of, widened

ROWS = 1024  # of the data that a log weight sees at once
WORK = 2e12  # products of weights and rows that a thousand log weights may cost


def stored(state: State) -> dict[str, np.ndarray]:
    """The result of a run as arrays by name: index, mean and scale of each store, points, loc and scale of normal sites."""
    found: dict[str, Any] = {f"{store}/index": index for store, index in state.index.items()}
    for store, leaf in state.params["weights"].items():
        found |= {f"{store}/mean": leaf["mean"], f"{store}/scale": scale_of(leaf["raw"])}
    found |= {f"{site}/point": value for site, value in state.params["points"].items()}
    for site, leaf in state.params["normals"].items():
        found |= {f"{site}/loc": leaf["loc"], f"{site}/scale": scale_of(leaf["raw"])}
    return {name: np.asarray(value) for name, value in found.items()}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Unpacking(AbstractDecompression):
    """From values of active weights and of the other sites to all sites of the program.

    Attributes:
        index: the active tiles of each store.
        layout: of the stores.
        sites: of the problem.
    """

    index: dict[str, Any]
    layout: Layout = dataclasses.field(metadata={"static": True})
    sites: Sites = dataclasses.field(metadata={"static": True})

    def __call__(self, packed: Mapping[str, Any]) -> dict[str, Any]:
        seen = self.layout.matrices(
            self.index, {name: packed[name] for name in self.layout.patterns}
        )
        others = {name: packed[name] for name in (*self.sites.points, *self.sites.normals)}
        scales, deterministic = self.surroundings(others)
        latent = {self.sites.weights[name]: matrix / scales[name] for name, matrix in seen.items()}
        return deterministic | seen | latent | others

    def surroundings(self, others: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The scale between each matrix of weights and its latent site, and the deterministic sites."""
        problem, weights = self.sites.problem, self.sites.weights
        if all(latent == seen for latent, seen in self.sites.network.weights.items()):
            return dict.fromkeys(weights, 1.0), {}
        assert self.sites.network.with_product is not None
        program = WholePlates(self.sites.network.with_product(Ignored(self.layout)))
        ones = {site: jnp.ones(problem.latents[site]) for site in weights.values()}
        seeded = handlers.seed(program, jax.random.key(0))
        inputs = tuple(
            arg[:1] for arg in problem.args
        )  # one row: what depends on rows is not looked at
        trace = handlers.trace(handlers.substitute(seeded, data=ones | dict(others))).get_trace(
            *inputs, **problem.kwargs
        )
        scales = {
            seen: 1.0 if seen == site else trace[seen]["value"].reshape(-1)[0]
            for seen, site in weights.items()
        }
        return scales, {
            name: site["value"] for name, site in trace.items() if site["type"] == "deterministic"
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """The functions of a fitted q."""

    sites: Sites
    layout: Layout

    def parts(self, params: Mapping[str, Any], part: str) -> dict[str, Any]:
        """One array of each store."""
        return {name: jnp.asarray(params[f"{name}/{part}"]) for name in self.layout.patterns}

    def draw(self, key: jax.Array, params: Mapping[str, Any]) -> dict[str, Any]:
        """One draw of the active weights and of all other sites."""
        mean, sd = self.parts(params, "mean"), self.parts(params, "scale")
        drawn = {name: mean[name] + sd[name] * normals(key, name, mean[name]) for name in mean}
        return drawn | self.others(key, params)[0]

    def others(self, key: jax.Array, params: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """One draw of the sites that are not weights, and its log density under q."""
        values: dict[str, Any] = {
            name: jnp.asarray(params[f"{name}/point"]) for name in self.sites.points
        }
        density = jnp.zeros(())
        for name in self.sites.normals:
            loc, sd = jnp.asarray(params[f"{name}/loc"]), jnp.asarray(params[f"{name}/scale"])
            noise, transform = normals(key, name, loc), self.sites.transform(name)
            u = loc + sd * noise
            values[name] = transform(u)
            slope = jnp.sum(transform.log_abs_det_jacobian(u, values[name]))
            density = density + (jax.scipy.stats.norm.logpdf(noise) - jnp.log(sd)).sum() - slope
        return values, density

    def unpacking(self, params: Mapping[str, Any]) -> Unpacking:
        return Unpacking(self.parts(params, "index"), self.layout, self.sites)

    def sample(self, key: jax.Array, params: Mapping[str, Any]) -> dict[str, Any]:
        """One draw of all sites."""
        return self.unpacking(params)(self.draw(key, params))

    def log_weight(self, key: jax.Array, params: Mapping[str, Any]) -> jax.Array:
        """Log p(y, w, z) - log q(w, z) at one draw."""
        index, mean, sd = (self.parts(params, part) for part in ("index", "mean", "scale"))
        values, density = self.others(key, params)
        drawn = self.draw(key, params)
        flat = {name: jnp.zeros_like(value) for name, value in sd.items()}
        problem = self.sites.problem
        total = problem.data_plate[1]

        def part(rows: Any) -> tuple[Any, Any, Any]:
            product = SparseProduct(
                self.layout, index, {name: drawn[name] for name in mean}, flat, key, "weights"
            )
            joint = self.sites.joint(values, product, rows, problem.args, problem.kwargs)
            return joint.likelihood * len(rows) / total, joint.sites, joint.priors

        cut = total - total % ROWS
        likelihood, sites, priors = (
            part(jnp.arange(cut, total)) if cut < total else part(jnp.arange(ROWS))
        )
        likelihood = likelihood if cut < total else jnp.zeros(())
        if cut:
            likelihood += jax.lax.map(
                lambda rows: part(rows)[0], jnp.arange(cut).reshape(-1, ROWS)
            ).sum()
        for store in self.layout.patterns:
            noise = (drawn[store] - mean[store]) / sd[store]
            log_q = jax.scipy.stats.norm.logpdf(noise) - jnp.log(sd[store])
            for layer, mask in self.layout.member_masks(store, index[store]):
                law, scale = widened(priors[layer], self.layout, layer)
                density = density + jnp.where(mask, log_q, 0.0).sum()
                if isinstance(law, Bursts):
                    pattern = self.layout.patterns[store]
                    density = density - log_prior(
                        law, scale, pattern, index[store], drawn[store] ** 2, mask
                    )
                else:
                    density = (
                        density
                        - jnp.where(
                            mask, law.log_prob(drawn[store] / scale) - jnp.log(scale), 0.0
                        ).sum()
                    )
        return likelihood + sites - density


def approximation(
    sites: Sites,
    layout: Layout,
    params: dict[str, Any],
    losses: np.ndarray,
    info: dict,
    num_draws: int,
) -> Approximation:
    """The result of SSVI."""
    fitted = Fitted(sites, layout)
    work = (
        1000.0
        * sites.problem.data_plate[1]
        * sum(np.prod(shape) for shape in layout.shapes.values())
    )
    return Approximation(
        params,
        draw=fitted.sample,
        log_weight=fitted.log_weight,
        losses=losses,
        info=info,
        num_draws=num_draws,
        packed=fitted.draw,
        unpacking=fitted.unpacking(params),
        weighable=bool(work <= WORK),
    )
