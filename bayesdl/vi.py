"""Programmable variational inference: objectives as functions, gradient estimators per sample site.

    def elbo(p, q):
        z, log_q = q.sim()
        return p.density(z) - log_q

    E = bayesdl.vi.expectation(elbo, model, guide)
    value = E(key, params, *data)  # unbiased, and so is jax.grad of it
    post = bayesdl.fit(model, data, engine=bayesdl.VI(objective=elbo, guide=guide))

p and q are the distributions of the model's and the guide's program:
`help(bayesdl.vi.ProgramDistribution)`.
"""

from inference.renaming import renamed_names
from inference.vi.check import check_unbiased
from inference.vi.constructs import marginal, normalize
from inference.vi.distributions import ProgramDistribution
from inference.vi.expectation import expectation
from inference.vi.gradients.estimators import (
    MVD,
    Enum,
    EstimatorError,
    Implicit,
    Reinforce,
    Reparam,
)
from inference.vi.gradients.runs import add_cost, step
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
    "Implicit",
    "ProgramDistribution",
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

__getattr__ = renamed_names(__name__, {"Handle": "ProgramDistribution"})
