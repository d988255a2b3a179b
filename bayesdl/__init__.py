"""Probabilistic programming and Bayesian deep learning: one model, interchangeable engines.

post = bayesdl.fit(bayesdl.BNN(), X, y, engine=bayesdl.NUTS())
pred = post.predict(X_new)
"""

import importlib
import warnings
from typing import TYPE_CHECKING

import inference

if not getattr(inference, "__bayesdl__", False):
    raise ImportError(
        f"bayesdl needs its own package `inference` and found another one at {inference.__file__}. "
        "Another distribution installs a package of that name: uninstall it (`pip uninstall "
        "inference`) and reinstall bayesdl."
    )

with warnings.catch_warnings():
    # NumPyro imports the bars of notebooks, which complain where ipywidgets is missing; this
    # package shows plain bars there
    warnings.filterwarnings("ignore", message="IProgress not found")
    import numpyro.util  # noqa: F401

from bayesdl import amortized, engines, kernels, mcmc, models, priors, tensor, vi
from bayesdl.data.validation import DataError, ModelError
from bayesdl.engines import *  # noqa: F403
from bayesdl.engines import UnsupportedError
from bayesdl.fitting import fit
from bayesdl.model.likelihoods import (
    Bernoulli,
    Categorical,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
)
from bayesdl.models import *  # noqa: F403
from bayesdl.posterior.posterior import Posterior
from bayesdl.saving.bundle import BundleError, load
from bayesdl.saving.predictions import predict_file
from inference.core.checkpoint import CheckpointError

if TYPE_CHECKING:
    from bayesdl import effects, recommend, sparse
    from bayesdl import plots as plots
    from bayesdl import sklearn as sklearn
    from bayesdl.amortized.pfn import PFN
    from bayesdl.checks.calibration import sbc
    from bayesdl.checks.loo import compare
    from bayesdl.checks.prior import prior_predictive
    from bayesdl.functional.match import match_prior, prior_report
    from bayesdl.functional.report import PriorMismatch

__version__ = "0.1.0"

# Submodules that are imported when they are first used: some load scikit-learn or Matplotlib.
LAZY = ("effects", "plots", "recommend", "sklearn", "sparse")

# Where names stand that are imported when they are first used, so that `import bayesdl` is quick.
_HOMES = {
    "PFN": "amortized.pfn",
    "PriorMismatch": "functional.report",
    "compare": "checks.loo",
    "match_prior": "functional.match",
    "prior_predictive": "checks.prior",
    "prior_report": "functional.match",
    "sbc": "checks.calibration",
}


def __getattr__(name: str) -> object:
    """Import a submodule of `LAZY`, or a name of `_HOMES`, when it is first used."""
    if name in LAZY:
        return importlib.import_module(f"bayesdl.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"bayesdl.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'bayesdl' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted({*__all__, *LAZY, "__version__"})


__all__ = [
    "PFN",
    "Bernoulli",
    "BundleError",
    "Categorical",
    "CheckpointError",
    "DataError",
    "ModelError",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "Posterior",
    "PriorMismatch",
    "StudentT",
    "UnsupportedError",
    "amortized",
    "compare",
    "effects",
    "fit",
    "kernels",
    "load",
    "match_prior",
    "mcmc",
    "predict_file",
    "prior_predictive",
    "prior_report",
    "priors",
    "recommend",
    "sbc",
    "sparse",
    "tensor",
    "vi",
]
__all__ += engines.__all__
__all__ += models.__all__
