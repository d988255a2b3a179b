"""Probabilistic programming and Bayesian deep learning: one model, interchangeable inference engines.

post = bayesdl.fit(bayesdl.BNN(), X, y, engine=bayesdl.NUTS())
pred = post.predict(X_new)
"""

import importlib
from typing import TYPE_CHECKING

import inference

if not getattr(inference, "__bayesdl__", False):
    raise ImportError(
        f"bayesdl needs its own package `inference` and found another one at {inference.__file__}. "
        "Another distribution installs a package of that name: uninstall it (`pip uninstall inference`) and reinstall bayesdl."
    )

from bayesdl import kernels, priors, vi
from bayesdl.amortized.prior_mixture import PriorMixture
from bayesdl.amortized.random_bnn import RandomBNN
from bayesdl.bnn.conv import ConvNet
from bayesdl.bnn.spec import BNN
from bayesdl.checks.calibration import sbc
from bayesdl.checks.loo import compare
from bayesdl.checks.prior import prior_predictive
from bayesdl.data.validation import DataError, ModelError
from bayesdl.engines import (
    HMC,
    MCLMC,
    NUTS,
    SGHMC,
    SGLD,
    SSVI,
    VI,
    CyclicalSGMCMC,
    ExactGP,
    GPyTorchGP,
    Laplace,
    MessagePassing,
    PyroNUTS,
    UnsupportedError,
)
from bayesdl.fitting import fit
from bayesdl.functional.match import match_prior, prior_report
from bayesdl.functional.report import PriorMismatch
from bayesdl.gp.spec import GP
from bayesdl.model.likelihoods import (
    Bernoulli,
    Categorical,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
)
from bayesdl.model.program import Program
from bayesdl.posterior.posterior import Posterior
from bayesdl.saving.bundle import BundleError, load
from bayesdl.tensor.spec import FunBaT, Mode
from inference.core.checkpoint import CheckpointError

if TYPE_CHECKING:
    from bayesdl import recommend, sparse
    from bayesdl.amortized.pfn import PFN

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Imports `bayesdl.plots`, `sklearn`, `sparse`, `recommend` and `PFN` when they are first used."""
    if name in ("plots", "recommend", "sklearn", "sparse"):
        return importlib.import_module(f"bayesdl.{name}")
    if name == "PFN":
        return importlib.import_module("bayesdl.amortized.pfn").PFN
    raise AttributeError(f"module 'bayesdl' has no attribute {name!r}")


__all__ = [
    "BNN",
    "GP",
    "HMC",
    "MCLMC",
    "NUTS",
    "PFN",
    "SGHMC",
    "SGLD",
    "SSVI",
    "VI",
    "Bernoulli",
    "BundleError",
    "Categorical",
    "CheckpointError",
    "ConvNet",
    "CyclicalSGMCMC",
    "DataError",
    "ExactGP",
    "FunBaT",
    "GPyTorchGP",
    "Laplace",
    "MessagePassing",
    "Mode",
    "ModelError",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "Posterior",
    "PriorMismatch",
    "PriorMixture",
    "Program",
    "PyroNUTS",
    "RandomBNN",
    "StudentT",
    "UnsupportedError",
    "compare",
    "fit",
    "kernels",
    "load",
    "match_prior",
    "prior_predictive",
    "prior_report",
    "priors",
    "recommend",
    "sbc",
    "sparse",
    "vi",
]
