"""What the networks of prior-data fitted networks have in common: they read data sets and predict.

    context   a learned null row and the rows with their targets  attend to the context, layer by layer
    query     a row without a target                              attends to the context of the same layer
    latent    a row of its own                                    likewise

Queries are never keys, so a prediction cannot depend on other queries or on their targets; the order of the context does not
matter; the null row makes the empty context well defined. Cost is n^2 + n m for n rows and m queries. Rows beyond a data
set's own number of rows are padding, which nothing attends to. Here n and m count rows; of what a kind of network makes tokens
is said there.

Targets may be read in units of their own context,

    z = (y - c) / s,   c = (c_0 + sum y) / (1 + n),   s^2 = (s_0^2 + (c_0 - c)^2 + sum (y - c)^2) / (1 + n),

where c_0 and s_0 are of the prior's targets; the null row then tells c and s, and bars stand in these units. A spread far below
s_0 shows with many rows only, as s >= s_0 / sqrt(1 + n).
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from inference.amortized.layers import normalised, uniform, wide
from inference.core.keys import tagged_key
from inference.distributions.bars import Grid, law
from inference.distributions.shifted_bars import moved


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a network.

    Attributes:
        num_inputs: columns of x, at most.
        num_outputs: logits of a query.
        num_classes: of a target that is a class; 0 for a number.
        width: of a token.
        layers: attention layers.
        heads: attention heads.
        hidden: units of the MLP in a layer.
        frequencies: of the sines and cosines of each input.
        tokens: "rows", or "cells": see `inference.amortized.cell_network`.
        num_latents: latent sites that are predicted too.
        latent_bars: logits of each.
        unit: centre and spread of the prior's targets, where contexts are read in units of their own; None where they are not.
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
                f"width={self.width} and heads={self.heads}: expected a width that the heads divide."
            )


class Cache(eqx.Module):
    """What `condition` keeps of contexts.

    Attributes:
        keys_values: of each layer, shape (2, tasks, 1 + rows, heads, width of a head); where tokens are cells there are
            (1 + columns) times as many tasks.
        lengths: rows of each task that are not padding, the null row included, shape (tasks,).
        units: centre and spread of each task's targets, shape (tasks, 2), where it is read in them.
    """

    keys_values: tuple[jax.Array, ...]
    lengths: jax.Array
    units: jax.Array | None


class Ends(eqx.Module):
    """What networks of all kinds begin and end with.

    Attributes:
        targets: embeddings of the classes, or of one number.
        units: embedding of what is told of a context's units; None where it is read as it is.
        latent_tokens: the tokens of latent sites.
        norm: of the last tokens.
        decode: from tokens to hidden units.
        decode_bias: likewise.
        head: from hidden units to logits of queries.
        head_bias: likewise.
        latent_heads: likewise of each latent site.
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
    def init(cls, shape: Shape, key: jax.Array) -> Ends:
        width, hidden = shape.width, shape.hidden
        return cls(
            targets=uniform(tagged_key(key, "targets"), max(1, shape.num_classes), width),
            units=None if shape.unit is None else uniform(tagged_key(key, "units"), 2, width),
            latent_tokens=jax.random.normal(tagged_key(key, "latents"), (shape.num_latents, width)),
            norm=jnp.ones(width),
            decode=uniform(tagged_key(key, "decode"), width, hidden),
            decode_bias=jnp.zeros(hidden),
            head=jnp.zeros((hidden, shape.num_outputs)),
            head_bias=jnp.zeros(shape.num_outputs),
            latent_heads=jnp.zeros((shape.num_latents, hidden, shape.latent_bars)),
        )

    def decoded(self, g: jax.Array) -> jax.Array:
        """Hidden units of tokens after the last layer."""
        return jax.nn.gelu(normalised(g, self.norm) @ self.decode + wide(self.decode_bias))


class AbstractNetwork(eqx.Module):
    """A network for a `Shape`.

    Attributes:
        shape: its sizes.
        layers: each gives the keys and values of contexts, and tokens that have attended to these.
        ends: what it begins and ends with.
    """

    shape: eqx.AbstractVar[Shape]
    layers: eqx.AbstractVar[tuple]
    ends: eqx.AbstractVar[Ends]

    @abc.abstractmethod
    def condition(self, X: jax.Array, y: jax.Array, num_rows: jax.Array) -> Cache:
        """Reads contexts: all that predictions need of them.

        Args:
            X: shape (tasks, rows, inputs), padded.
            y: numbers or class indices, shape (tasks, rows).
            num_rows: of each task, shape (tasks,).
        """

    @abc.abstractmethod
    def asked(self, cache: Cache, X: jax.Array) -> jax.Array:
        """Tokens of queries after the last layer, shape (tasks, queries, width)."""

    @abc.abstractmethod
    def asked_latents(self, cache: Cache) -> jax.Array:
        """Tokens of latent sites after the last layer, shape (tasks, sites, width)."""

    def law(self, cache: Cache, X: jax.Array, grid: Grid | None, outputs: int | None = None) -> Any:
        """The predictive law of queries, shape (tasks, queries); of the first so many outputs."""
        return moved(law(self.predict(cache, X)[..., :outputs], grid), cache.units)

    def predict(self, cache: Cache, X: jax.Array) -> jax.Array:
        """Logits of queries, shape (tasks, queries, outputs), given X of shape (tasks, queries, inputs)."""
        hidden = self.ends.decoded(self.asked(cache, X))
        return (hidden @ self.ends.head + wide(self.ends.head_bias)).astype(jnp.float32)

    def latents(self, cache: Cache) -> jax.Array:
        """Logits of latent sites, shape (tasks, sites, bars)."""
        hidden = self.ends.decoded(self.asked_latents(cache))
        return jnp.einsum("tsh,shb->tsb", hidden, self.ends.latent_heads).astype(jnp.float32)

    def kept(self, h: jax.Array, num_rows: jax.Array, units: jax.Array | None) -> Cache:
        """What is kept of contexts, given their tokens, null rows first."""
        lengths, kept = (num_rows + 1).astype(jnp.int32), []
        for layer in self.layers:
            kept.append(layer.kept(h, self.shape.heads))
            h = layer(h, kept[-1], lengths)
        return Cache(tuple(kept), lengths, units)

    def through(self, cache: Cache, g: jax.Array) -> jax.Array:
        """Tokens that attend to contexts, after the last layer."""
        for layer, kept in zip(self.layers, cache.keys_values, strict=True):
            g = layer(g, kept, cache.lengths)
        return g

    def read(self, y: jax.Array, num_rows: jax.Array) -> Read:
        """Targets as the network reads them."""
        targets, embedding = self.ends.targets, self.ends.units
        none = jnp.zeros((len(y), self.shape.width), targets.dtype)
        if self.shape.num_classes:
            return Read(targets[y.astype(jnp.int32)], None, none)
        units, told = None, none
        if embedding is not None and self.shape.unit is not None:
            units = units_of(y, num_rows, self.shape.unit)
            told = told_of(units, self.shape.unit).astype(embedding.dtype) @ embedding
            y = (y - units[:, :1]) / units[:, 1:]
        return Read(y[..., None].astype(targets.dtype) * wide(targets[0]), units, told)


@dataclasses.dataclass(frozen=True)
class Read:
    """Targets of contexts.

    Attributes:
        tokens: shape (tasks, rows, width).
        units: of each task, shape (tasks, 2), or None.
        told: what is added to null rows, shape (tasks, width).
    """

    tokens: jax.Array
    units: jax.Array | None
    told: jax.Array


def units_of(y: jax.Array, num_rows: jax.Array, unit: tuple[float, float]) -> jax.Array:
    """Centre and spread of the first so many targets of each task, as if one more at the prior's centre and spread was seen."""
    seen = jnp.arange(y.shape[1])[None, :] < num_rows[:, None]
    rows = 1 + num_rows[:, None]
    center = (unit[0] + jnp.where(seen, y, 0.0).sum(1, keepdims=True)) / rows
    squares = jnp.where(seen, (y - center) ** 2, 0.0).sum(1, keepdims=True)
    return jnp.concatenate(
        [center, jnp.sqrt((unit[1] ** 2 + (unit[0] - center) ** 2 + squares) / rows)], 1
    )


def told_of(units: jax.Array, unit: tuple[float, float]) -> jax.Array:
    """What the network is told of units, in those of the prior, on scales that heavy tails do not leave: shape (tasks, 2)."""
    return jnp.stack(
        [jnp.arcsinh((units[:, 0] - unit[0]) / unit[1]), jnp.log(units[:, 1] / unit[1])], 1
    )
