"""The common part of the networks of prior-data fitted networks: they read data sets and predict.

    context   a learned null row and the rows with targets   attend to the context, layer by layer
    query     a row without a target                         attends to the same layer's context
    latent    a row of its own                               likewise

Queries are never keys, so a prediction cannot depend on other queries or on their targets. The
order of the context does not matter. The null row makes the empty context well defined. The cost is
n^2 + n m for n rows and m queries. Rows beyond a data set's own number of rows are padding, which
nothing attends to. Each kind of network says what its tokens are.

Targets may be read in units of their own context,

    z = (y - c) / s,    c = (c_0 + sum y) / (1 + n),
    s^2 = (s_0^2 + (c_0 - c)^2 + sum (y - c)^2) / (1 + n),

where c_0 and s_0 are the centre and the spread of the prior's targets. The null row then tells the
network c and s, and bars stand in these units. A spread far below s_0 shows only with many rows,
since s >= s_0 / sqrt(1 + n).
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.distributions import CategoricalLogits

from inference.amortized.layers import as_row, init_uniform, rms_normalize
from inference.amortized.tasks import Batch
from inference.core.keys import tagged_key
from inference.core.typing import Key
from inference.distributions.bars import Bars, Grid, Grids, distribution_from_logits
from inference.distributions.shifted_bars import ShiftedBars, shift_bars

# The fewest rows of a padded data set.
FEWEST_ROWS = 8


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes of a network.

    Attributes:
        num_inputs: the largest number of columns of x.
        num_outputs: the number of logits of a query.
        num_classes: the number of classes of the target; 0 if it is a number.
        width: the width of a token.
        layers: the number of attention layers.
        heads: the number of attention heads, which divides the width.
        hidden: the number of units of the MLP in a layer.
        frequencies: the number of frequencies of the sines and cosines of each input.
        num_latents: the number of latent sites that are predicted too.
        latent_bars: the number of logits of each latent site.
        unit: the centre and the spread of the prior's targets if contexts are read in units of
            their own; otherwise None.
        tokens: the kind of the network, a key of `kinds.KINDS`.
    """

    num_inputs: int
    num_outputs: int
    num_classes: int = 0
    width: int = 64
    layers: int = 4
    heads: int = 4
    hidden: int = 128
    frequencies: int = 4
    num_latents: int = 0
    latent_bars: int = 0
    unit: tuple[float, float] | None = None
    tokens: str = "rows"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"width={self.width} and heads={self.heads}: expected a width that the heads "
                "divide."
            )


class Cache(eqx.Module):
    """What networks of tokens keep of contexts.

    Attributes:
        keys_values: the keys and values of each layer, shape (2, tasks, 1 + rows, heads, width of a
            head); if tokens are cells there are (1 + columns) times as many tasks.
        lengths: the number of rows of each task that are not padding, including the null row, shape
            (tasks,).
        units: the centre and the spread of each task's targets, shape (tasks, 2), if they are read
            in these units; otherwise None.
    """

    keys_values: tuple[jax.Array, ...]
    lengths: jax.Array
    units: jax.Array | None


class Ends(eqx.Module):
    """The first and the last weights, which networks of all kinds have.

    Attributes:
        targets: the embeddings of the classes, or of one number, shape (classes or 1, width).
        units: the embedding of a context's units, shape (2, width); None if it has none.
        latent_tokens: the tokens of latent sites, shape (sites, width).
        norm: the scale of the last normalisation, shape (width,).
        decode: the weights from tokens to hidden units, shape (width, hidden).
        decode_bias: the biases of the hidden units, shape (hidden,).
        head: the weights from hidden units to logits of queries, shape (hidden, outputs).
        head_bias: the biases of these logits, shape (outputs,).
        latent_heads: the weights from hidden units to logits of latent sites, shape (sites, hidden,
            bars).
    """

    targets: jax.Array
    units: jax.Array | None
    latent_tokens: jax.Array
    norm: jax.Array
    decode: jax.Array
    decode_bias: jax.Array
    head: jax.Array
    head_bias: jax.Array
    latent_heads: jax.Array

    @classmethod
    def init(cls, shape: Shape, key: Key) -> Ends:
        """Return random first weights, and last weights of zero."""
        width, hidden = shape.width, shape.hidden
        return cls(
            targets=init_uniform(tagged_key(key, "targets"), max(1, shape.num_classes), width),
            units=None if shape.unit is None else init_uniform(tagged_key(key, "units"), 2, width),
            latent_tokens=jax.random.normal(tagged_key(key, "latents"), (shape.num_latents, width)),
            norm=jnp.ones(width),
            decode=init_uniform(tagged_key(key, "decode"), width, hidden),
            decode_bias=jnp.zeros(hidden),
            head=jnp.zeros((hidden, shape.num_outputs)),
            head_bias=jnp.zeros(shape.num_outputs),
            latent_heads=jnp.zeros((shape.num_latents, hidden, shape.latent_bars)),
        )

    def hidden_units(self, g: jax.Array) -> jax.Array:
        """Return the hidden units of tokens after the last layer."""
        return jax.nn.gelu(rms_normalize(g, self.norm) @ self.decode + as_row(self.decode_bias))


class AbstractNetwork(eqx.Module):
    """A network for a `Shape`, of any kind.

    Attributes:
        shape: the sizes of the network.
        at_once: data sets computed at once where many are needed, which bounds the memory.
        num_checked: data sets for each number of rows in a certificate.
        reuse: how often a data set of training is used. More than once, the training keeps a bank
            of data sets as `prepare` gives them, so that these have no part of the weights.
        any_columns: whether data may have more columns than those of training.
    """

    shape: eqx.AbstractVar[Shape]

    at_once: ClassVar[int] = 64
    num_checked: ClassVar[int] = 512
    reuse: ClassVar[int] = 1
    any_columns: ClassVar[bool] = False

    @classmethod
    @abc.abstractmethod
    def init(cls, shape: Shape, key: Key) -> AbstractNetwork:
        """Return a network before training."""

    @classmethod
    def settle(cls, shape: Shape) -> Shape:
        """Return the shape with the sizes that this kind has."""
        return shape

    @classmethod
    def refusal(cls, shape: Shape) -> str | None:
        """Return why this kind cannot have a shape; None if it can."""
        return None

    def for_outputs(self, outputs: int) -> AbstractNetwork:
        """Return the network for data with fewer classes, where that saves time."""
        return self

    def padded(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the numbers of rows and columns to which data are padded.

        They are few, so that data sets of similar sizes share what is compiled.
        """
        return max(FEWEST_ROWS, 1 << (rows - 1).bit_length()), self.shape.num_inputs

    @abc.abstractmethod
    def condition(self, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> Any:
        """Read contexts and return all that predictions need of them, with a field `units`.

        Args:
            X: the padded inputs, shape (tasks, rows, inputs).
            y: the numbers or class indices, shape (tasks, rows).
            num_rows: the number of rows of each task, shape (tasks,).
        """

    @abc.abstractmethod
    def predict(self, cache: Any, X: jax.Array) -> jax.Array:
        """Return logits of queries X, shape (tasks, queries, outputs)."""

    @abc.abstractmethod
    def predict_latents(self, cache: Any) -> jax.Array:
        """Return logits of latent sites, shape (tasks, sites, bars)."""

    def baselines(self, cache: Any, X: jax.Array) -> dict[str, jax.Array]:
        """Return by name logits of queries that need no training, to compare with."""
        return {}

    def predictive(
        self, cache: Any, X: jax.Array, grid: Grid | None, outputs: int | None = None
    ) -> Bars | ShiftedBars | CategoricalLogits:
        """Return the predictive distributions of queries, batch shape (tasks, queries).

        Args:
            cache: what `condition` kept of contexts.
            X: the queries, shape (tasks, queries, inputs).
            grid: the grid of the bars; None for classes.
            outputs: the number of outputs in use; by default all.
        """
        logits = self.predict(cache, X)[..., :outputs]
        return shift_bars(distribution_from_logits(logits, grid), cache.units)

    def prepare(self, batch: Batch, num_queries: int) -> Any:
        """Return data sets as `prepared_loss` takes them; no weights take part."""
        return batch, num_queries

    @abc.abstractmethod
    def prepared_loss(self, prepared: Any, grids: Grids) -> jax.Array:
        """Return the mean of -log q over tasks and queries, plus that of latent sites."""


class AbstractTokenNetwork(AbstractNetwork):
    """A network whose tokens attend to one another.

    Attributes:
        shape: the sizes of the network.
        layers: the attention layers; each gives the keys and values of contexts, and maps tokens to
            tokens that have attended to these.
        ends: the first and the last weights.
    """

    layers: eqx.AbstractVar[tuple]
    ends: eqx.AbstractVar[Ends]

    @abc.abstractmethod
    def encode_queries(self, cache: Cache, X: jax.Array) -> jax.Array:
        """Return the tokens of queries after the last layer, shape (tasks, queries, width)."""

    @abc.abstractmethod
    def encode_latents(self, cache: Cache) -> jax.Array:
        """Return the tokens of latent sites after the last layer, shape (tasks, sites, width)."""

    def predict(self, cache: Cache, X: jax.Array) -> jax.Array:
        """Return logits of queries X, shape (tasks, queries, outputs)."""
        hidden = self.ends.hidden_units(self.encode_queries(cache, X))
        return (hidden @ self.ends.head + as_row(self.ends.head_bias)).astype(jnp.float32)

    def predict_latents(self, cache: Cache) -> jax.Array:
        """Return logits of latent sites, shape (tasks, sites, bars)."""
        hidden = self.ends.hidden_units(self.encode_latents(cache))
        return jnp.einsum("tsh,shb->tsb", hidden, self.ends.latent_heads).astype(jnp.float32)

    def prepared_loss(self, prepared: Any, grids: Grids) -> jax.Array:
        batch, num_queries = prepared
        X, y = batch.X, batch.y
        cache = self.condition(X[:, :-num_queries], y[:, :-num_queries], batch.num_rows)
        q = self.predictive(cache, X[:, -num_queries:], grids.target)
        loss = -q.log_prob(y[:, -num_queries:]).mean()
        if grids.latents is None:
            return loss
        latents = Bars(self.predict_latents(cache), *grids.latents)
        return loss - latents.log_prob(batch.latents).mean()

    def build_cache(self, h: jax.Array, num_rows: jax.Array, units: jax.Array | None) -> Cache:
        """Return what is kept of contexts, given their tokens, null rows first."""
        lengths, keys_values = (num_rows + 1).astype(jnp.int32), []
        for layer in self.layers:
            keys_values.append(layer.project_keys_values(h, self.shape.heads))
            h = layer(h, keys_values[-1], lengths)
        return Cache(tuple(keys_values), lengths, units)

    def attend(self, cache: Cache, g: jax.Array) -> jax.Array:
        """Return tokens after the last layer, in which they attend to contexts."""
        for layer, keys_values in zip(self.layers, cache.keys_values, strict=True):
            g = layer(g, keys_values, cache.lengths)
        return g

    def embed_targets(self, y: jax.Array, num_rows: jax.Array) -> TargetEmbedding:
        """Return the targets of contexts as the network reads them."""
        targets, embedding = self.ends.targets, self.ends.units
        none = jnp.zeros((len(y), self.shape.width), targets.dtype)
        if self.shape.num_classes:
            return TargetEmbedding(targets[y.astype(jnp.int32)], None, none)
        units, null_shift = None, none
        if embedding is not None and self.shape.unit is not None:
            units = context_units(y, num_rows, self.shape.unit)
            features = _unit_features(units, self.shape.unit).astype(embedding.dtype)
            null_shift = features @ embedding
            y = (y - units[:, :1]) / units[:, 1:]
        tokens = y[..., None].astype(targets.dtype) * as_row(targets[0])
        return TargetEmbedding(tokens, units, null_shift)


@dataclasses.dataclass(frozen=True)
class TargetEmbedding:
    """The targets of contexts as a network reads them.

    Attributes:
        tokens: the tokens of targets, shape (tasks, rows, width).
        units: the centre and the spread of each task, shape (tasks, 2), or None.
        null_shift: the vectors that are added to null rows, shape (tasks, width).
    """

    tokens: jax.Array
    units: jax.Array | None
    null_shift: jax.Array


def context_units(y: jax.Array, num_rows: jax.Array, unit: tuple[float, float]) -> jax.Array:
    """Return the centre and the spread of each task's targets, shape (tasks, 2).

    Args:
        y: the targets, shape (tasks, rows).
        num_rows: the number of rows of each context, which are the first ones.
        unit: the prior's centre and spread, which count like one more row.
    """
    seen = jnp.arange(y.shape[1])[None, :] < num_rows[:, None]
    rows = 1 + num_rows[:, None]
    center = (unit[0] + jnp.where(seen, y, 0.0).sum(1, keepdims=True)) / rows
    squares = jnp.where(seen, (y - center) ** 2, 0.0).sum(1, keepdims=True)
    return jnp.concatenate(
        [center, jnp.sqrt((unit[1] ** 2 + (unit[0] - center) ** 2 + squares) / rows)], 1
    )


def _unit_features(units: jax.Array, unit: tuple[float, float]) -> jax.Array:
    """Return what the network reads of units, shape (tasks, 2).

    They are relative to the prior's units, and on scales on which heavy tails stay bounded in
    practice.
    """
    return jnp.stack(
        [jnp.arcsinh((units[:, 0] - unit[0]) / unit[1]), jnp.log(units[:, 1] / unit[1])], 1
    )
