"""Bayesian networks of unknown architecture: a prior over tables, to train `bdl.PFN` on.

    L ~ U{depth},  H ~ U{width},  activation ~ U{activations},
    s ~ U(sparsity),  g ~ gain,  r_d ~ relevance
    h_0 = r x,   h_l = act(g W_l h_{l-1} + b_l),   f = U h_L + c,   y ~ p(y | f)

with W_l, U normal of variance 1 / fan-in and a share s of the W_l zero. L = 0 means h_L = h_0, a
linear model. The probabilities of classes are softmax(k f) with k ~ sharpness, and if there may be
fewer classes than outputs, their number is drawn too. (The tabular priors of Mueller et al. 2022,
arXiv:2112.10510, and Hollmann et al. 2023, arXiv:2207.01848, are of this kind.)
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike

from bayesdl.bnn.networks import ACTIVATIONS
from bayesdl.data.table import AbstractSchema
from bayesdl.data.validation import DataError
from bayesdl.model.examples import CommandLine
from bayesdl.model.language import NUMPYRO
from bayesdl.model.likelihoods import AbstractLikelihood, Categorical, Normal
from bayesdl.model.table import AbstractTableModel
from bayesdl.typing import ColumnLike, TableLike

# The logit of a class that is not there.
NEVER = -1e9

# The standard deviation of the biases of classes; with a larger one often all rows have one class.
CLASS_BIAS = 0.3

TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class RandomBNN(AbstractTableModel):
    """A Bayesian network whose architecture is drawn too, for `bdl.PFN.train`.

    It is a prior for data that no one network is believed to describe. Its discrete sites rule out
    engines that need gradients. Columns of X that are zero in every row are taken to be absent, so
    that one network can be trained for several numbers of columns.

    Args:
        depth: the fewest and the most hidden layers; 0 is a linear model.
        width: the fewest and the most units of a hidden layer.
        activations: the activations, of which one is drawn for all layers.
        sparsity: the least and the largest share of hidden layers' weights that are zero.
        gain: the gain of hidden layers, a positive number or its prior. Functions are rougher for a
            larger gain.
        relevance: the relevance of each column, a positive number or the prior of each.
        likelihood: the likelihood of the targets; its scales are in the units of `bdl.BNN`.
        sharpness: the sharpness of classes, a positive number or its prior.
        fewer_classes: whether there may be fewer classes than `Training(num_classes=...)` says;
            their number is then uniform from 2 up to that.
        standardize: whether inputs and real targets are standardised with the training data's mean
            and standard deviation.

    Example:
        >>> RandomBNN(depth=(1, 2), width=(4, 16), activations=("tanh", "relu")).depth
        (1, 2)
    """

    depth: tuple[int, int] = (0, 3)
    width: tuple[int, int] = (4, 32)
    activations: tuple[str, ...] = ("tanh", "relu", "sine")
    sparsity: tuple[float, float] = (0.0, 0.5)
    gain: Any = dist.LogNormal(0.4, 0.6)
    relevance: Any = dist.LogNormal(0.0, 1.0)
    likelihood: AbstractLikelihood = Normal()
    sharpness: Any = dist.LogNormal(1.5, 1.0)
    fewer_classes: bool = False
    standardize: bool = True

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        """Return nothing: an amortized network answers for it, which the command line lacks."""
        return ()

    def __post_init__(self) -> None:
        for name, least, bound in (
            ("depth", 0, math.inf),
            ("width", 1, math.inf),
            ("sparsity", 0.0, 1.0),
        ):
            low, high = span = tuple(getattr(self, name))
            object.__setattr__(self, name, span)
            if not least <= low <= high < bound:
                raise ValueError(
                    f"RandomBNN({name}={span}): expected (least, largest) from {least} on, below "
                    f"{bound}."
                )
        unknown = set(self.activations) - set(ACTIVATIONS)
        if unknown or not self.activations:
            raise ValueError(
                f"RandomBNN(activations={self.activations}): expected some of "
                f"{', '.join(map(repr, ACTIVATIONS))}."
            )
        if not isinstance(self.likelihood, AbstractLikelihood):
            raise ValueError(
                f"RandomBNN(likelihood={self.likelihood!r}): expected an object, e.g. bdl.Normal()."
            )

    no_other_engine: ClassVar[bool] = True

    def ignores_zero_columns(self, fewest: int, most: int) -> bool:
        return True

    def covers_classes(self, num_trained: int, num_classes: int) -> bool:
        return num_classes == num_trained or (self.fewer_classes and num_classes < num_trained)

    def learn_schema(
        self, X: TableLike | None = None, y: ColumnLike | None = None, **options: Any
    ) -> AbstractSchema:
        schema = super().learn_schema(X, y, **options)
        if schema.target.kind == "real" and schema.target.num_targets > 1:
            raise DataError(
                f"RandomBNN takes one target column, y has {schema.target.num_targets}."
            )
        return schema

    def program(self, X: jax.Array, y: ArrayLike | None = None, *, num_targets: int = 1) -> None:
        """Run the NumPyro program."""
        f = self.draw_functions(X, self.likelihood.num_outputs(num_targets))
        if isinstance(self.likelihood, Categorical):
            f = self.class_logits(f)
        elif self.likelihood.kind == "class":
            f = f * _draw_number("sharpness", self.sharpness)
        parameters = self.likelihood.parameters(num_targets, NUMPYRO)
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", self.likelihood.distribution(f, parameters, NUMPYRO), obs=y)

    def draw_functions(self, X: jax.Array, num_outputs: int) -> jax.Array:
        """Draw f at all rows, shape (rows, num_outputs)."""
        used = (X != 0).any(0)
        num_used = jnp.maximum(used.sum(), 1)
        depth: Any = numpyro.sample("depth", dist.DiscreteUniform(*self.depth))
        relevance = jnp.where(used, _draw_number("relevance", self.relevance, X.shape[-1]), 0.0)
        x = X * (relevance / jnp.sqrt((relevance**2).sum() / num_used + TINY))[None, :]
        f = x @ _draw_matrix("linear.weight", X.shape[-1], num_outputs) / jnp.sqrt(num_used)
        if self.depth[1]:
            h, width = self.draw_hidden(x, num_used, depth)
            f = jnp.where(
                depth > 0,
                h @ _draw_matrix("output.weight", self.width[1], num_outputs) / jnp.sqrt(width),
                f,
            )
        return f + (CLASS_BIAS if self.likelihood.kind == "class" else 1.0) * _draw_biases(
            "output.bias", num_outputs
        )

    def draw_hidden(
        self, x: jax.Array, fan_in: jax.Array, depth: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Draw the last hidden layer, and return its units and how many of them there are.

        Args:
            x: the inputs times their relevance, shape (rows, columns).
            fan_in: the number of columns in use.
            depth: the number of hidden layers.

        Returns:
            The units, shape (rows, largest width), of which the first `width` are not zero; and
            `width`.
        """
        width: Any = numpyro.sample("width", dist.DiscreteUniform(*self.width))
        activation = numpyro.sample(
            "activation", dist.DiscreteUniform(0, len(self.activations) - 1)
        )
        sparsity = _draw_number(
            "sparsity",
            dist.Uniform(*self.sparsity)
            if self.sparsity[0] < self.sparsity[1]
            else self.sparsity[0],
        )
        gain, most, h = _draw_number("gain", self.gain), self.width[1], x
        for layer in range(self.depth[1]):
            weight = _draw_matrix(f"layer{layer}.weight", h.shape[-1], most) * jnp.sqrt(
                1 / (fan_in * (1 - sparsity))
            )
            kept = numpyro.sample(
                f"layer{layer}.kept", dist.Bernoulli(1 - sparsity).expand(weight.shape).to_event(2)
            )
            z = gain * h @ (weight * kept) + _draw_biases(f"layer{layer}.bias", most)
            new = jnp.stack([NUMPYRO.activations[name](z) for name in self.activations])[activation]
            new = jnp.where((jnp.arange(most) < width)[None, :], new, 0.0)
            h, fan_in = new if layer == 0 else jnp.where(layer < depth, new, h), width
        return h, width

    def class_logits(self, f: jax.Array) -> jax.Array:
        """Return the logits of classes; those of classes that are not there are `NEVER`."""
        f = f * _draw_number("sharpness", self.sharpness)
        if not self.fewer_classes or f.shape[-1] < 3:
            return f
        count = numpyro.sample("num_classes", dist.DiscreteUniform(2, f.shape[-1]))
        return jnp.where((jnp.arange(f.shape[-1]) < count)[None, :], f, NEVER)


def _draw_number(
    name: str, value: ArrayLike | dist.Distribution, size: int | None = None
) -> jax.Array:
    """Return a number as it is, and draw one from a distribution as a site.

    Args:
        name: the name of the site.
        value: the number or the distribution.
        size: how many are wanted, shape (size,); None for one, shape ().
    """
    if not isinstance(value, dist.Distribution):
        shape = () if size is None else (size,)
        return jnp.full(shape, float(value))  # pyright: ignore[reportArgumentType]
    prior = value if size is None else value.expand((size,)).to_event(1)
    found: Any = numpyro.sample(name, prior)
    return found


def _draw_matrix(name: str, rows: int, columns: int) -> Any:
    """Draw a matrix of standard normal weights."""
    return numpyro.sample(name, dist.Normal(0.0, 1.0).expand((rows, columns)).to_event(2))


def _draw_biases(name: str, size: int) -> jax.Array:
    """Draw a row of standard normal biases, shape (1, size)."""
    return jnp.asarray(numpyro.sample(name, dist.Normal(0.0, 1.0).expand((size,)).to_event(1)))[
        None, :
    ]
