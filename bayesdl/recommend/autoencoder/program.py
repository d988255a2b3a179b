"""The model as a NumPyro program and its encoder as a guide, for any engine.

    model = MultVAE().fit(train, validation)
    program, guide = programs(model, rows)                  # z of these users, weights fixed
    bayesdl.fit(program, engine=bayesdl.NUTS())             # their exact posterior
    program, guide = programs(model, rows, learn=True)
    bayesdl.fit(program, engine=bayesdl.VI(guide=guide))    # trains on, on these users

NUTS measures the amortization gap of the encoder. VI trains on without annealing or dropout. The
posterior is that of the likelihood to a power, by default the one that the encoder was trained for.
Training itself is `training.py`, whose batches and annealing the engine does not know; a test
compares its bound with that of this program.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.distributions import constraints

from bayesdl.recommend.autoencoder.codes import encode_users
from bayesdl.recommend.autoencoder.network import Weights
from bayesdl.recommend.autoencoder.objective import Objective
from bayesdl.recommend.autoencoder.spec import MultVAE
from bayesdl.recommend.rows import AnyArray, Entries, as_entries
from bayesdl.typing import Program, TableLike


class UserRows(dist.Distribution):
    """The distribution of users' rows given z, evaluated at their nonzeros.

    A constant of the data is left out.

    Args:
        objective: the objective of the fit.
        params: the weights.
        z: the users' codes, shape (b, latent).
        x: the batch of users; the observed values are those of its entries.
    """

    arg_constraints: ClassVar[dict] = {}
    support: Any = constraints.nonnegative
    pytree_data_fields = ("params", "z", "x")
    pytree_aux_fields = ("objective",)

    def __init__(self, objective: Objective, params: Weights, z: AnyArray, x: Entries) -> None:
        self.objective, self.params, self.z, self.x = objective, params, z, x
        super().__init__((z.shape[0],), x.value.shape)

    def log_prob(self, value: AnyArray) -> jax.Array:
        """Return the log likelihood of each user, shape (b,)."""
        return self.objective.log_likelihood(self.params, self.z, self.x._replace(value=value))

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Refuse to draw rows, as their lengths are not part of the model."""
        raise NotImplementedError("Rows are evaluated only; draw items from softmax of the scores.")


def programs(
    model: MultVAE,
    X: TableLike,
    *,
    learn: bool = False,
    likelihood_power: ArrayLike | None = None,
) -> tuple[Program, Program]:
    """Return the program of these users' z and rows, and its guide.

    Args:
        model: a fitted model with the prior "normal".
        X: users x items.
        learn: whether the weights are `numpyro.param` sites that start from the fit; otherwise they
            are fixed.
        likelihood_power: the power of the likelihood; None for that of training, 1 / beta.

    Example:
        >>> import numpy as np, bayesdl as bdl
        >>> X = np.tile(np.eye(4) + np.eye(4)[::-1], (10, 1))
        >>> model = MultVAE(hidden=(), latent=2, epochs=2, progress=False).fit(X)
        >>> program, guide = programs(model, X[:1])
        >>> post = bdl.fit(program, engine=bdl.NUTS(100, 100, 1), progress=False)
        >>> post.samples["z"].shape
        (1, 100, 1, 2)
    """
    if model.prior != "normal":
        raise ValueError(f"programs: the prior is {model.prior!r}; only 'normal' is a program.")
    objective, x = model.objective(), as_entries(model.rows(X))
    x = Entries(*(jnp.asarray(leaf) for leaf in x))
    power = 1 / model.user_betas(x, likelihood_power)

    def params() -> Weights:
        if not learn:
            return model.params_
        found: Any = {name: numpyro.param(name, value) for name, value in model.params_.items()}
        return found

    def program() -> None:
        weights = params()
        with numpyro.plate("users", len(x.present)):
            z: Any = numpyro.sample(
                "z", dist.Normal(0.0, 1.0).expand([objective.network.latent]).to_event(1)
            )
            with handlers.scale(scale=power):
                numpyro.sample("x", UserRows(objective, weights, z, x), obs=x.value)

    def guide() -> None:
        mean, log_variance = encode_users(objective, params(), x)
        with numpyro.plate("users", len(x.present)):
            numpyro.sample("z", dist.Normal(mean, jnp.exp(log_variance / 2)).to_event(1))

    return program, guide
