"""Tables of unknown make, a prior to train `bdl.PFN` on.

    part ~ weights,    columns in use ~ 1 .. columns of X (logarithmically)
    clouds:      c, X drawn together,    p(y | c) = (1 - e) 1[y = c] + e shares
    functions:   X first,    p(y | X) = (1 - e) softmax(k f(X))_y + e shares

The scores f are drawn by `functions`, or are bands of one drawn function. k is the sharpness, e the
label noise. The columns of X are then measured in ways that hide what they were (`columns`). (The
priors of Mueller et al. 2022, arXiv:2112.10510, and Hollmann et al. 2025,
doi:10.1038/s41586-024-08328-6, are of this kind.)
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike

from bayesdl.amortized.tables.clouds import draw_clouds
from bayesdl.amortized.tables.columns import measure
from bayesdl.amortized.tables.functions import FUNCTIONS
from bayesdl.amortized.tables.pool import Pool
from bayesdl.amortized.tables.rows import draw_relevance, draw_rows
from bayesdl.data.validation import ModelError
from bayesdl.model.examples import CommandLine
from bayesdl.model.likelihoods import AbstractLikelihood, Categorical
from bayesdl.model.table import AbstractTableModel

CLOUDS = "clouds"
PARTS = (CLOUDS, *FUNCTIONS)

# The largest value of a cell.
LARGEST = 1e3

# The share of tables with two classes, where there may be more.
TWO_CLASSES = 0.4

NEVER, FAR, TINY = -1e9, 1e3, 1e-30


@dataclasses.dataclass(frozen=True)
class RandomTable(AbstractTableModel):
    """Tables like those that people have, for `bdl.PFN.train(..., Training(kind="stacked"))`.

    Inputs and classes are drawn together, so the model says nothing of targets at given inputs: a
    `PFN` alone can answer for it. Data that are fitted may have any number of columns, and fewer
    classes than the network was trained for.

    Args:
        parts: what tables are made of: "clouds" (rows around centres of their class), or functions
            of rows: "linear", "network", "trees" (sums of trees), "additive".
        weights: the prior probabilities of parts; by default 0.4 for clouds, if there are any, and
            equal for the rest.
        label_noise: the largest share of labels that are drawn without regard to X.
        sharpness: the location and scale of the logarithm of the sharpness of classes.
        likelihood: the likelihood of the targets, `bdl.Categorical()`.
        standardize: whether inputs are standardised with the training data's mean and standard
            deviation.

    Example:
        >>> RandomTable(parts=("clouds", "trees")).weights
        (0.4, 0.6)
    """

    parts: tuple[str, ...] = PARTS
    weights: tuple[float, ...] = ()
    label_noise: float = 0.15
    sharpness: tuple[float, float] = (1.3, 0.8)
    likelihood: AbstractLikelihood = Categorical()
    standardize: bool = True

    no_other_engine: ClassVar[bool] = True

    @classmethod
    def command_lines(cls) -> tuple[CommandLine, ...]:
        """Return nothing: an amortized network answers for it, which the command line lacks."""
        return ()

    def __post_init__(self) -> None:
        for name in ("parts", "weights", "sharpness"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.parts or set(self.parts) - set(PARTS):
            raise ModelError(
                f"RandomTable(parts={self.parts}): expected some of {', '.join(map(repr, PARTS))}."
            )
        if not self.weights:
            object.__setattr__(self, "weights", _default_weights(self.parts))
        if (
            len(self.weights) != len(self.parts)
            or min(self.weights) <= 0
            or abs(sum(self.weights) - 1) > 1e-6
        ):
            raise ModelError(
                f"RandomTable(weights={self.weights}): expected {len(self.parts)} positive numbers "
                "of sum 1, one for each part."
            )
        if not 0 <= self.label_noise <= 1:
            raise ModelError(
                f"RandomTable(label_noise={self.label_noise}): expected a share between 0 and 1."
            )
        if len(self.sharpness) != 2 or not self.sharpness[1] >= 0:
            raise ModelError(
                f"RandomTable(sharpness={self.sharpness}): expected a location and a scale of at "
                "least 0."
            )
        if not isinstance(self.likelihood, Categorical):
            raise ModelError(
                f"RandomTable(likelihood={self.likelihood!r}): expected bdl.Categorical()."
            )

    def ignores_zero_columns(self, fewest: int, most: int) -> bool:
        return True

    def covers_classes(self, num_trained: int, num_classes: int) -> bool:
        return num_classes <= num_trained

    def program(self, X: jax.Array, y: ArrayLike | None = None, *, num_targets: int = 1) -> None:
        """Run the NumPyro program; X gives the size of the table, and its columns of zeros.

        The site "X" holds the inputs that belong to y.
        """
        weights: Any = dist.Categorical(probs=jnp.array(self.weights))
        part: Any = numpyro.sample("part", weights)
        key: Any = numpyro.prng_key()
        offered, rows = (X != 0).any(0), len(X)
        table, probs = Pool.supply(
            key, lambda pool: self.draw_table(pool, part, offered, rows, num_targets)
        )
        targets: Any = dist.Categorical(probs=probs)
        numpyro.deterministic("X", table.astype(X.dtype))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", targets, obs=y)

    def draw_table(
        self, pool: Pool, part: jax.Array, offered: jax.Array, rows: int, classes: int
    ) -> tuple[jax.Array, jax.Array]:
        """Draw inputs of shape (rows, columns), and the probabilities of classes of each row.

        Args:
            pool: the random numbers.
            part: the number of the part that the table is made of.
            offered: whether a column may be used, shape (columns,).
            rows: the number of rows.
            classes: the number of classes.
        """
        most = jnp.maximum(offered.sum(), 1)
        power = 0.3 + 0.7 * pool.uniform()
        used = offered & (jnp.cumsum(offered) <= jnp.ceil(most**power))
        relevance = draw_relevance(pool, len(offered))
        relevance = jnp.where(used, relevance, 0.0)
        relevance = relevance / jnp.sqrt((relevance**2).sum() / used.sum().clip(1) + 1e-6)
        spread = pool.uniform()
        weights = spread * pool.normal(classes)
        some = _draw_number_of_classes(pool, classes)
        shares = jax.nn.softmax(jnp.where(jnp.arange(classes) < some, weights, NEVER))
        draws = [
            _of_clouds if name == CLOUDS else _of_functions(name, self.sharpness)
            for name in self.parts
        ]
        table, probs = jax.lax.switch(
            part,
            [lambda draw=draw: draw(pool, rows, relevance, shares) for draw in draws],
        )
        noise = pool.uniform(2)
        noisy = self.label_noise * noise[0] * (noise[1] < 0.5)
        probs = (1 - noisy) * probs + noisy * shares[None, :]
        table = measure(pool, table)
        return jnp.where(used[None, :], table, 0.0).clip(-LARGEST, LARGEST), probs


def _default_weights(parts: tuple[str, ...]) -> tuple[float, ...]:
    """Return 0.4 for clouds and equal weights for the rest."""
    if CLOUDS not in parts or len(parts) == 1:
        return (1 / len(parts),) * len(parts)
    rest = 0.6 / (len(parts) - 1)
    return tuple(0.4 if part == CLOUDS else rest for part in parts)


def _draw_number_of_classes(pool: Pool, most: int) -> jax.Array:
    """Return 2 with probability `TWO_CLASSES`, and otherwise a number of 2 to the most."""
    some = pool.whole(2, most + 1)
    return jnp.where(pool.uniform() < TWO_CLASSES, 2, some)


def _of_clouds(
    pool: Pool, rows: int, relevance: jax.Array, shares: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return inputs of clouds, and probabilities of their classes."""
    x, c = draw_clouds(pool, rows, relevance, shares)
    return x, jax.nn.one_hot(c, len(shares), dtype=x.dtype)


def _of_functions(name: str, sharpness: tuple[float, float]) -> Any:
    """Return a function that draws inputs, and probabilities of classes by a function of them."""

    def draw(
        pool: Pool, rows: int, relevance: jax.Array, shares: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        classes = len(shares)
        x = draw_rows(pool, rows, len(relevance))
        f = FUNCTIONS[name](pool, x * relevance[None, :], classes)
        place, scale = sharpness
        k = jnp.exp(place + scale * pool.normal())
        # Bands of one function: classes between random quantiles of its values.
        edges = pool.normal(classes - 1)
        edges = jnp.sort(jnp.where(shares[1:] > 0, edges, FAR))
        below = jax.nn.sigmoid(2 * k * (edges[None, :] - f[:, :1]))
        upto = jnp.pad(below, ((0, 0), (0, 1)), constant_values=1.0)
        bands = jnp.diff(upto, axis=1, prepend=jnp.zeros((rows, 1), f.dtype)).clip(0)
        scores = jax.nn.softmax(k * f + jnp.log(shares + TINY)[None, :])
        in_bands = pool.uniform() < 0.4
        return x, jnp.where(in_bands, bands / bands.sum(1, keepdims=True), scores)

    return draw
