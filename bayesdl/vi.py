"""Programmable variational inference: objectives as functions, gradient estimators per sample site.

    def elbo(p, q):
        z, log_q = q.sim()
        return p.density(z) - log_q

    E = bayesdl.vi.expectation(elbo, model, guide)  # E(key, params, *data): value and jax.grad are unbiased
    post = bayesdl.fit(model, data, engine=bayesdl.VI(objective=elbo, guide=guide))

p and q are handles of the model and the guide: `help(bayesdl.vi.Handle)`.
"""

from inference.vi.check import check_unbiased
from inference.vi.constructs import marginal, normalize
from inference.vi.gradients.estimators import (
    MVD,
    Enum,
    EstimatorError,
    Implicit,
    Reinforce,
    Reparam,
)
from inference.vi.gradients.expectation import expectation
from inference.vi.gradients.runs import add_cost, step
from inference.vi.handles import Handle
from inference.vi.objectives import (
    dreg,
    elbo,
    iwelbo,
    renyi,
    symmetric_kl,
    tempered_elbo,
    thermodynamic,
    wake_phi,
    wake_theta,
)

__all__ = [
    "MVD",
    "Enum",
    "EstimatorError",
    "Handle",
    "Implicit",
    "Reinforce",
    "Reparam",
    "add_cost",
    "check_unbiased",
    "dreg",
    "elbo",
    "expectation",
    "iwelbo",
    "marginal",
    "normalize",
    "renyi",
    "step",
    "symmetric_kl",
    "tempered_elbo",
    "thermodynamic",
    "wake_phi",
    "wake_theta",
]
