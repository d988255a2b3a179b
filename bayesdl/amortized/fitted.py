"""Functions of a fit with a `PFN`: latent sites, and whether the data are like the prior's."""

from __future__ import annotations

import dataclasses
import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from bayesdl.amortized.context import inputs_and_targets, pad_data
from bayesdl.amortized.pfn import PFN
from bayesdl.engines import UnsupportedError
from bayesdl.model.base import AbstractModel
from bayesdl.posterior.core import site_prediction
from bayesdl.posterior.posterior import Posterior
from bayesdl.posterior.prediction import Prediction
from bayesdl.typing import Integer
from bayesdl.warnings import TrustWarning
from inference.amortized.surprise import code_lengths
from inference.amortized.tasks import TARGET, Tasks
from inference.core.engine import require
from inference.core.keys import tagged_key

# Data with a p-value up to this one are called unlike the prior's.
SURPRISING = 0.02

# With fewer samples no p-value can be that small.
FEWEST_SAMPLES = 99


def latent(post: Posterior, site: str) -> Prediction:
    """Return the posterior of one latent site, from a `PFN` trained with `latents=(site,)`.

    It has a mean, a standard deviation, quantiles and samples, in the units of the program (for a
    model that standardises, the units of standardised data). Other engines give draws instead, in
    `post.samples`.

    Args:
        post: the posterior, fitted with a `PFN`.
        site: the name of the latent site.

    Raises:
        UnsupportedError: if the engine gives no such posterior.

    Example:
        >>> import bayesdl as bdl
        >>> pfn = bdl.PFN.pretrained("gp-regression")
        >>> X = np.linspace(-1, 1, 9)[:, None]
        >>> post = bdl.fit(pfn.model, X, np.sin(3 * X[:, 0]), engine=pfn, progress=False)
        >>> bool(latent(post, "sigma").mean < 0.5)
        True
    """
    known = post.raw.site_predictives()
    sites = {*known, *post.samples, *post.problem.latents}
    if sites and site not in sites:
        raise UnsupportedError(
            f"latent({site!r}): the model has no latent site of this name; expected one of "
            f"{', '.join(map(repr, sorted(sites)))}."
        )
    if site not in known:
        names = f"it has {sorted(known)}; " if known else ""
        raise UnsupportedError(
            f"{type(post.engine).__name__} has no posterior of latent site '{site}': {names}"
            f"{post.raw.site_cure(site)}."
        )
    return site_prediction(post, site)


@dataclasses.dataclass(frozen=True)
class Surprise:
    """How surprising a data set is under a prior.

    Attributes:
        p: the two-sided p-value: the share of data sets drawn from the prior at the same inputs
            whose code length is at least as extreme.
        code_length: the mean of -log q of each target given some of the others, in nats a row and
            in the model's units.
        of_prior: the code lengths of the data sets drawn from the prior.
    """

    p: float
    code_length: float
    of_prior: np.ndarray

    def __repr__(self) -> str:
        low, high = np.quantile(self.of_prior, [0.05, 0.95])
        word = "unlike" if self.p <= SURPRISING else "like"
        return (
            f"{word} the prior's data: p = {self.p:.3g} (code length {self.code_length:.3g} nats a "
            f"row, of the prior's data 90 % between {low:.3g} and {high:.3g})"
        )


def ood(post: Posterior, num_samples: Integer = 199) -> Surprise:
    """Test whether the data are like those of the prior that a `PFN` was trained on.

    Args:
        post: the posterior, fitted with a `PFN`.
        num_samples: the number of data sets drawn from the prior at the same inputs, at least 99.
            The network reads each of them several times, which takes a minute for many rows.

    Raises:
        UnsupportedError: for another engine, and for priors that draw inputs too; use
            `post.check_predictive` there.
        ValueError: for too few samples.
    """
    if num_samples < FEWEST_SAMPLES:
        raise ValueError(
            f"ood(num_samples={num_samples}): expected at least {FEWEST_SAMPLES}, for a p-value "
            "that can be small."
        )
    pfn = require(
        post.engine,
        PFN,
        f"ood needs a fit with a PFN, got one with {type(post.engine).__name__}: "
        "use post.check_predictive().",
    )
    X, y = inputs_and_targets(post.problem)
    classes = pfn.grids.target is None
    if pfn.tasks.draws_inputs():
        raise UnsupportedError(
            f"ood compares targets at the same inputs, and {pfn.model.name} draws inputs and "
            "targets together: use post.check_predictive()."
        )
    sizes = pfn.network.padded(*X.shape)
    padded = np.asarray(pad_data(X, y, sizes, classes).X)[: len(X)]
    key = tagged_key(jax.random.key(post.seed), "ood")
    with jax.enable_x64(pfn.tasks.double):
        wide = jnp.asarray(padded, jnp.float64 if pfn.tasks.double else jnp.float32)
        drawn = np.asarray(_draw_targets(pfn.tasks, jax.random.split(key, num_samples), wide))
    if classes:
        # `fit` refuses data of one class.
        drawn = drawn[[len(np.unique(one)) > 1 for one in drawn]]
    targets = np.stack([y, *(_prepare_targets(pfn.model, one) for one in drawn)]).astype(
        np.int32 if classes else np.float32
    )
    keys = jax.random.split(tagged_key(key, "orders"), len(targets))
    outputs = pfn.network.shape.num_outputs
    lengths = code_lengths(
        pfn.network, pfn.grids.target, jnp.asarray(padded), jnp.asarray(targets), keys, outputs
    )
    observed, simulated = float(lengths[0]), np.asarray(lengths[1:], float)
    more, fewer = np.sum(simulated >= observed), np.sum(simulated <= observed)
    found = Surprise(
        min(1.0, 2 * (1 + min(more, fewer)) / (1 + len(simulated))), observed, simulated
    )
    if found.p <= SURPRISING:
        warnings.warn(
            f"The data are {found}: predictions cannot be trusted.", TrustWarning, stacklevel=2
        )
    return found


@functools.partial(jax.jit, static_argnums=0)
def _draw_targets(tasks: Tasks, keys: jax.Array, X: jax.Array) -> jax.Array:
    """Draw targets of the prior at these inputs, one data set for each key."""
    return jax.vmap(lambda key: tasks.sites(key, X)[TARGET]["value"])(keys)


def _prepare_targets(model: AbstractModel, y: np.ndarray) -> np.ndarray:
    """Return targets of the prior as `fit` would give them to the network.

    They are standardised if the model standardises, and classes are counted from 0.
    """
    if np.issubdtype(y.dtype, np.integer):
        return np.unique(y, return_inverse=True)[1]
    if not model.standardize or len(y) < 2:
        return y
    return (y - y.mean()) / max(y.std(), 1e-12)
