"""The predictions of a prior-data fitted network: new rows, alone or jointly, and latent sites.

The joint distribution follows the chain rule, in a random order of the rows:

    y_1 ~ q(. | x_1, data),    y_2 ~ q(. | x_2, data, (x_1, y_1)),    ...
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro.distributions import CategoricalLogits, Distribution, constraints

from inference.amortized.network import AbstractNetwork
from inference.core.result import AbstractPredictive, AbstractPredictor, Conditional
from inference.core.typing import Key, SiteArrays
from inference.distributions.bars import Bars, Grid, distribution_from_logits
from inference.distributions.shifted_bars import ShiftedBars, shift_bars

# The most rows that can be drawn jointly: the network reads each of them once more.
MOST_JOINT_ROWS = 256


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """A data set as the network reads it, padded.

    Attributes:
        X: the inputs, shape (rows, inputs).
        y: the targets, shape (rows,).
        num_rows: the number of rows that are not padding.
    """

    X: jax.Array
    y: jax.Array
    num_rows: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class NetworkPredictive(AbstractPredictive):
    """The predictive distribution of new rows.

    Attributes:
        network: the weights.
        context: the data.
        cache: what the network keeps of the data.
        grid: the grid of the bars; None for classes.
        columns: the number of columns of zeros that are added to X.
        outputs: the number of the network's outputs in use: all bars, or the classes of these data.
        most_rows: the largest number of rows for which the network was trained.
    """

    network: AbstractNetwork
    context: Context
    cache: Any
    grid: Grid | None
    columns: int = dataclasses.field(metadata={"static": True})
    outputs: int = dataclasses.field(metadata={"static": True})
    most_rows: int = dataclasses.field(metadata={"static": True})

    def __call__(
        self,
        latents: SiteArrays,
        key: Key | None,
        *args: ArrayLike,
        joint: bool = False,
        **named: ArrayLike,
    ) -> Conditional:
        (X,) = (*args, *named.values())
        X = jnp.pad(jnp.asarray(X, jnp.float32), ((0, 0), (0, self.columns)))
        q = JointDistribution(self, X) if joint else self.row_distributions(self.cache, X)
        # The network does not tell doubt about the function from noise.
        return Conditional(q, jnp.full(len(X), jnp.nan))

    def joint_concern(self, *args: ArrayLike, **kwargs: ArrayLike) -> str | None:
        (X,) = (*args, *kwargs.values())
        total = int(self.context.num_rows) + jnp.shape(X)[0] - 1
        if total <= self.most_rows:
            return None
        return (
            f"joint samples read their own rows too, {total} in all, and the network was trained "
            f"for at most {self.most_rows}"
        )

    def row_distributions(self, cache: Any, X: jax.Array) -> Bars | ShiftedBars | CategoricalLogits:
        """Return the distribution of each row by itself."""
        logits = self.network.predict(cache, X[None])[0, :, : self.outputs]
        units = None if cache.units is None else cache.units[0]
        return shift_bars(distribution_from_logits(logits, self.grid), units)


class JointDistribution(Distribution):
    """The joint distribution of new rows; it can only be drawn from.

    Args:
        predictive: the predictive distribution of the network.
        X: the new rows, shape (rows, inputs).

    Raises:
        ValueError: for more than `MOST_JOINT_ROWS` rows.
    """

    arg_constraints: ClassVar = {}
    support: Any = constraints.real_vector

    def __init__(self, predictive: NetworkPredictive, X: jax.Array) -> None:
        if len(X) > MOST_JOINT_ROWS:
            raise ValueError(
                f"Joint samples of {len(X)} rows: the network reads each row again, so at most "
                f"{MOST_JOINT_ROWS} are possible. Predict fewer rows, or use marginal_samples, "
                "which is right row by row."
            )
        self.predictive, self.X = predictive, X
        super().__init__((), (len(X),))

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw one target for each row, shape (rows,)."""
        assert sample_shape == ()
        context, rows = self.predictive.context, len(self.X)
        ordering, drawing = jax.random.split(key)
        order = jax.random.permutation(ordering, rows)
        start = jnp.pad(context.X, ((0, rows), (0, 0))), jnp.pad(context.y, (0, rows))

        def step(carry: tuple, given: tuple) -> tuple:
            (X, y), (number, row) = carry, given
            at = context.num_rows + number
            cache = self.predictive.network.condition(X[None], y[None], at[None])
            value = self.predictive.row_distributions(cache, self.X[row][None]).sample(
                jax.random.fold_in(drawing, number)
            )[0]
            return (X.at[at].set(self.X[row]), y.at[at].set(value.astype(y.dtype))), value

        _, values = jax.lax.scan(step, start, (jnp.arange(rows), order))
        return jnp.zeros(rows, values.dtype).at[order].set(values)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class LatentPredictive(AbstractPredictive):
    """The posterior of one latent site.

    Attributes:
        network: the weights.
        cache: what the network keeps of the data.
        grid: the grid of the bars of all sites.
        number: the position of the site among those that the network predicts.
    """

    network: AbstractNetwork
    cache: Any
    grid: Grid
    number: int = dataclasses.field(metadata={"static": True})

    def __call__(self, latents: SiteArrays, key: Key | None) -> Conditional:
        logits = self.network.predict_latents(self.cache)[0, self.number]
        q = Bars(logits, self.grid.edges[self.number], self.grid.scales[self.number])
        # All doubt about a latent site is what more data would remove.
        return Conditional(q, q.variance)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AmortizedPredictor(AbstractPredictor):
    """The answer of a trained network to one data set.

    Attributes:
        concerns: a function of new data that says which of them lie outside those of training.
        latents: the posteriors of the latent sites that the network learned, by name.
    """

    concerns: Callable[..., list[str]]
    latents: dict[str, AbstractPredictive]

    def correlates_rows(self, by_model: bool) -> bool:
        # Rows share what the network does not know of the function, whatever the model.
        return True

    def outside(self, *args: object, **kwargs: object) -> list[str]:
        return self.concerns(*args, **kwargs)

    def site_predictives(self) -> dict[str, AbstractPredictive]:
        return self.latents

    def site_cure(self, site: str) -> str:
        return f"train it with latents=({site!r},)"

    def replication_concern(self) -> str | None:
        return (
            "was fitted with a network, which samples few rows jointly: bdl.amortized.ood(post) "
            "compares these data with those of the prior; for a check given the data fit with "
            "bdl.NUTS()"
        )


@jax.jit
def condition(network: AbstractNetwork, context: Context) -> Any:
    """Read one padded data set."""
    return network.condition(context.X[None], context.y[None], context.num_rows[None])
