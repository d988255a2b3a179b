"""The model as a NumPyro program and its encoder as a guide, for any engine: `bayesdl.VI`, or NUTS for a user's z.

model = MultVAE().fit(train, validation)
program, guide = programs(model, rows)                  # z of these users, weights fixed
bayesdl.fit(program, engine=bayesdl.NUTS())             # their exact posterior, to measure the amortization gap
program, guide = programs(model, rows, learn=True)
bayesdl.fit(program, engine=bayesdl.VI(guide=guide))    # trains on, on these users, without annealing or dropout

The posterior is that of the likelihood to a power, by default the one that the encoder was trained for. Training itself is
`training.py`, whose batches and annealing the engine does not know; a test holds its bound to that of this program.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints

from bayesdl.recommend.autoencoder.codes import encoded
from bayesdl.recommend.autoencoder.objective import Objective
from bayesdl.recommend.autoencoder.spec import MultVAE
from bayesdl.recommend.rows import Entries, entries


class UserRows(dist.Distribution):
    """The law of users' rows given z, evaluated at their nonzeros; a constant of the data is left out.

    Args:
        objective: of the fit.
        params: weights.
        z: shape (b, latent).
        x: the batch of users; what is observed are its values.
    """

    arg_constraints: ClassVar[dict] = {}
    support: Any = constraints.nonnegative
    pytree_data_fields = ("params", "z", "x")
    pytree_aux_fields = ("objective",)

    def __init__(self, objective: Objective, params: dict, z: Any, x: Entries) -> None:
        self.objective, self.params, self.z, self.x = objective, params, z, x
        super().__init__((z.shape[0],), x.value.shape)

    def log_prob(self, value: Any) -> jax.Array:
        return self.objective.log_likelihood(self.params, self.z, self.x._replace(value=value))

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        raise NotImplementedError("Rows are evaluated only; draw items from softmax of the scores.")


def programs(
    model: MultVAE, X: Any, *, learn: bool = False, likelihood_power: Any = None
) -> tuple[Any, Any]:
    """The program of these users' z and rows, and its guide.

    Args:
        model: fitted, with the prior "normal".
        X: users x items.
        learn: whether the weights are `numpyro.param` sites, from where they are; otherwise they are fixed.
        likelihood_power: of the likelihood; None for that of training, 1 / beta.

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
    objective, x = model.objective(), entries(model.rows(X))
    x = Entries(*(jnp.asarray(leaf) for leaf in x))
    power = 1 / model.betas(x, likelihood_power)

    def params() -> dict:
        if not learn:
            return model.params_
        return {name: numpyro.param(name, value) for name, value in model.params_.items()}

    def program() -> None:
        weights = params()
        with numpyro.plate("users", len(x.present)):
            z = numpyro.sample(
                "z", dist.Normal(0.0, 1.0).expand([objective.network.latent]).to_event(1)
            )
            with handlers.scale(scale=power):
                numpyro.sample("x", UserRows(objective, weights, z, x), obs=x.value)

    def guide() -> None:
        mean, log_variance = encoded(objective, params(), x)
        with numpyro.plate("users", len(x.present)):
            numpyro.sample("z", dist.Normal(mean, jnp.exp(log_variance / 2)).to_event(1))

    return program, guide
