"""The answer of a prior-data fitted network to one data set: laws of new rows one by one, jointly, and of latent sites.

Jointly by the chain rule, in a random order of the rows: y_1 ~ q(. | x_1, data), y_2 ~ q(. | x_2, data, (x_1, y_1)), ...
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, constraints

from inference.amortized.network import AbstractNetwork, Cache
from inference.core.result import AbstractPredictive, Conditional
from inference.distributions.bars import Bars, Grid, law
from inference.distributions.shifted_bars import moved

MOST_JOINTLY = 256  # rows; each is read once more by the network


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """A data set as the network reads it, padded.

    Attributes:
        X: shape (rows, inputs).
        y: shape (rows,).
        num_rows: that are not padding.
    """

    X: jax.Array
    y: jax.Array
    num_rows: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Answer(AbstractPredictive):
    """The law of new rows.

    Attributes:
        network: the weights.
        context: the data.
        cache: what the network keeps of them.
        grid: of the bars; None for classes.
        columns: of zeros beside those of X.
        outputs: of the network that count: bars, or classes of these data.
        most_rows: for which the network was trained.
    """

    network: AbstractNetwork
    context: Context
    cache: Cache
    grid: Grid | None
    columns: int = dataclasses.field(metadata={"static": True})
    outputs: int = dataclasses.field(metadata={"static": True})
    most_rows: int = dataclasses.field(metadata={"static": True})

    def __call__(
        self, latents: dict, key: Any, *args: Any, joint: bool = False, **named: Any
    ) -> Conditional:
        (X,) = (*args, *named.values())
        X = jnp.pad(jnp.asarray(X, jnp.float32), ((0, 0), (0, self.columns)))
        q: Any = Jointly(self, X) if joint else self.of(self.cache, X)
        return Conditional(
            q, jnp.full(len(X), jnp.nan)
        )  # the network does not tell doubt about the function from noise

    def joint_concern(self, *args: Any, **kwargs: Any) -> str | None:
        (X,) = (*args, *kwargs.values())
        total = int(self.context.num_rows) + len(X) - 1
        if total <= self.most_rows:
            return None
        return f"joint samples read their own rows too, {total} in all, and the network was trained for at most {self.most_rows}"

    def of(self, cache: Cache, X: jax.Array) -> Any:
        """The law of each row by itself."""
        logits = self.network.predict(cache, X[None])[0, :, : self.outputs]
        return moved(law(logits, self.grid), None if cache.units is None else cache.units[0])


class Jointly(Distribution):
    """The joint law of new rows; it can be drawn from.

    Args:
        answer: of the network.
        X: new rows, shape (rows, inputs).

    Raises:
        ValueError: for more than `MOST_JOINTLY` rows.
    """

    arg_constraints: ClassVar = {}
    support: Any = constraints.real_vector

    def __init__(self, answer: Answer, X: jax.Array) -> None:
        if len(X) > MOST_JOINTLY:
            raise ValueError(
                f"Joint samples of {len(X)} rows: the network reads each row again, so at most {MOST_JOINTLY} are possible. "
                "Predict fewer rows, or use marginal_samples, which is right row by row."
            )
        self.answer, self.X = answer, X
        super().__init__((), (len(X),))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        assert sample_shape == ()
        context, rows = self.answer.context, len(self.X)
        ordering, drawing = jax.random.split(key)
        order = jax.random.permutation(ordering, rows)
        start = jnp.pad(context.X, ((0, rows), (0, 0))), jnp.pad(context.y, (0, rows))

        def step(carry: tuple, given: tuple) -> tuple:
            (X, y), (number, row) = carry, given
            at = context.num_rows + number
            cache = self.answer.network.condition(X[None], y[None], at[None])
            value = self.answer.of(cache, self.X[row][None]).sample(
                jax.random.fold_in(drawing, number)
            )[0]
            return (X.at[at].set(self.X[row]), y.at[at].set(value.astype(y.dtype))), value

        _, values = jax.lax.scan(step, start, (jnp.arange(rows), order))
        return jnp.zeros(rows, values.dtype).at[order].set(values)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class LatentAnswer(AbstractPredictive):
    """The law of one latent site.

    Attributes:
        network: the weights.
        cache: what the network keeps of the data.
        grid: of the bars of all sites.
        number: of the site.
    """

    network: AbstractNetwork
    cache: Cache
    grid: Grid
    number: int = dataclasses.field(metadata={"static": True})

    def __call__(self, latents: dict, key: Any) -> Conditional:
        logits = self.network.latents(self.cache)[0, self.number]
        q: Any = Bars(logits, self.grid.edges[self.number], self.grid.scales[self.number])
        return Conditional(
            q, q.variance
        )  # all doubt about a latent site is what more data would remove


@jax.jit
def condition(network: AbstractNetwork, context: Context) -> Cache:
    """Reads one padded data set."""
    return network.condition(context.X[None], context.y[None], context.num_rows[None])
