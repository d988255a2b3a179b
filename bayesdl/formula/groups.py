"""Effects of groups, of those in the data and of new ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayesdl.formula.priors import InUnits, Prior
from bayesdl.formula.terms import AbstractTerm, Drawn, Lines, draw, site_text, variable
from bayesdl.model.registry import register_spec


@register_spec("formula.Group")
@dataclasses.dataclass(frozen=True)
class Group(AbstractTerm):
    """Effects of groups: w' r_g, with r_g ~ N(0, diag(sd) Omega diag(sd)), Omega ~ LKJ(eta).

    The first column is the number of the group: -1 stands for no effect, and numbers from the
    number of levels on for groups that the training data had not.

    Attributes:
        group: the name of the groups.
        suffix: what the names of sites end with, which tells terms of the same groups apart.
        levels: the labels of the groups.
        effects: the names of the effects.
        correlated: whether the effects of a group are correlated.
        centred: whether r is drawn itself; otherwise r = z * scale, with z ~ N(0, 1).
        scale: the prior of the standard deviations.
        concentration: eta.
    """

    group: str
    suffix: str
    levels: tuple
    effects: tuple
    correlated: bool
    centred: bool
    scale: Prior
    concentration: float

    @property
    def _name(self) -> str:
        return f"{self.prefix}{self.group}{self.suffix}"

    def sample(self) -> Drawn:
        size, count, name = len(self.effects), len(self.levels), self._name
        r: Any
        sd = jnp.reshape(draw(f"sd_{name}", self.scale, (size,)), (size,))
        if self.correlated:
            factor: Any = numpyro.sample(f"L_{name}", dist.LKJCholesky(size, self.concentration))
            pairs = np.tril_indices(size, -1)
            numpyro.deterministic(f"cor_{name}", (factor @ factor.T)[pairs])
            tril = sd[:, None] * factor
        else:
            tril = jnp.diag(sd)
        if not self.centred:
            z: Any = numpyro.sample(
                f"z_{name}", dist.Normal(0.0, 1.0).expand([count, size]).to_event(2)
            )
            r = numpyro.deterministic(f"r_{name}", z @ tril.T)
            return {"r": r, "tril": tril}
        unit = self.scale.unit
        zeros = jnp.zeros((count, size))
        each = (
            dist.MultivariateNormal(zeros, scale_tril=tril).to_event(1)
            if self.correlated
            else dist.Normal(zeros, sd[None]).to_event(2)
        )
        r = numpyro.sample(f"r_{name}", InUnits.around(each, unit, 0.0))
        return {"r": r, "tril": tril}

    def effect(self, drawn: Drawn, X: jax.Array, predicting: bool) -> jax.Array:
        r, tril = drawn["r"], drawn["tril"]
        number, weights = X[:, 0].astype(int), X[:, 1:]
        if not predicting:
            return jnp.sum(r[number] * weights, axis=-1)
        known = r[jnp.clip(number, 0, len(self.levels) - 1)]
        z = standard_normals(number, (len(self.effects),))
        new = (number >= len(self.levels))[:, None]
        effects = jnp.where(new, z @ tril.T, known)
        return jnp.where(number < 0, 0.0, jnp.sum(effects * weights, axis=-1))

    def lines(self) -> Lines:
        size, count, name = len(self.effects), len(self.levels), self._name
        sd, r, index = (variable(f"{kind}_{name}") for kind in ("sd", "r", "index"))
        written = [f"{sd} = {site_text(f'sd_{name}', self.scale, (size,))}"]
        tril = f"jnp.diag({sd})"
        if self.correlated:
            factor, cor = variable(f"L_{name}"), f"cor_{name}"
            lkj = f"dist.LKJCholesky({size}, {self.concentration})"
            written.append(f"{factor} = numpyro.sample({f'L_{name}'!r}, {lkj})")
            pairs = f"np.tril_indices({size}, -1)"
            written.append(f"numpyro.deterministic({cor!r}, ({factor} @ {factor}.T)[{pairs}])")
            tril = f"{sd}[:, None] * {factor}"
        if self.centred:
            each = (
                f"dist.MultivariateNormal(jnp.zeros({size}), scale_tril={tril})"
                f".expand([{count}]).to_event(1)"
                if self.correlated
                else f"dist.Normal(0.0, {sd}).expand([{count}, {size}]).to_event(2)"
            )
            written.append(f"{r} = numpyro.sample({f'r_{name}'!r}, {each})")
        else:
            z = variable(f"z_{name}")
            normal = f"dist.Normal(0.0, 1.0).expand([{count}, {size}]).to_event(2)"
            written.append(f"{z} = numpyro.sample({f'z_{name}'!r}, {normal})")
            written.append(f"{r} = numpyro.deterministic({f'r_{name}'!r}, {z} @ ({tril}).T)")
        if self.effects == ("Intercept",):
            return Lines(written, f"{r}[{index}, 0]", (index,))
        weights = variable(f"X_{name}")
        return Lines(written, f"jnp.sum({r}[{index}] * {weights}, axis=-1)", (index, weights))

    def arrays(self, X: np.ndarray) -> dict[str, np.ndarray]:
        found = {variable(f"index_{self._name}"): X[:, 0].astype(int)}
        if self.effects == ("Intercept",):
            return found
        return found | {variable(f"X_{self._name}"): X[:, 1:]}

    def priors(self) -> dict[str, str]:
        found = {f"sd_{self._name}": self.scale.describe()}
        correlation = {f"cor_{self._name}": f"LKJ({self.concentration:g})"}
        return found | (correlation if self.correlated else {})

    def hidden(self) -> tuple[str, ...]:
        factors = (f"L_{self._name}",) if self.correlated else ()
        return (*factors, *(() if self.centred else (f"z_{self._name}",)))

    def names(self) -> tuple[dict[str, tuple], dict[str, tuple]]:
        effects, pairs = f"{self._name}_effect", f"{self._name}_pair"
        coords = {self.group: self.levels, effects: self.effects}
        dims: dict[str, tuple] = {
            f"sd_{self._name}": (effects,),
            f"r_{self._name}": (self.group, effects),
        }
        if self.correlated:
            rows, columns = np.tril_indices(len(self.effects), -1)
            coords[pairs] = tuple(
                f"{self.effects[j]}, {self.effects[i]}" for i, j in zip(rows, columns, strict=True)
            )
            dims[f"cor_{self._name}"] = (pairs,)
        return coords, dims


def standard_normals(number: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draw N(0, 1) for each row, the same for rows of the same number; shape (rows, *shape)."""
    key = numpyro.prng_key()
    # a run without a key, which finds out shapes
    key = jax.random.key(0) if key is None else key
    numbered = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.maximum(number, 0))
    return jax.vmap(lambda key: jax.random.normal(key, shape))(numbered)
