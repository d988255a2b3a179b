"""Probabilistic programming and Bayesian deep learning: one model, interchangeable engines.

post = bayesdl.fit(bayesdl.BNN(), X, y, engine=bayesdl.NUTS())
pred = post.predict(X_new)
"""

import importlib as _importlib
import warnings as _warnings
from typing import TYPE_CHECKING

import inference

if not getattr(inference, "__bayesdl__", False):
    raise ImportError(
        f"bayesdl needs its own package `inference` and found another one at {inference.__file__}. "
        "Another distribution installs a package of that name: uninstall it (`pip uninstall "
        "inference`) and reinstall bayesdl."
    )

with _warnings.catch_warnings():
    # NumPyro imports the bars of notebooks, which complain where ipywidgets is missing; this
    # package shows plain bars there
    _warnings.filterwarnings("ignore", message="IProgress not found")
    import tqdm.auto  # noqa: F401

if TYPE_CHECKING:
    from bayesdl import (
        amortized,
        effects,
        engines,
        kernels,
        mcmc,
        models,
        priors,
        recommend,
        sparse,
        tensor,
        vi,
    )
    from bayesdl import plots as plots
    from bayesdl import sklearn as sklearn
    from bayesdl.amortized.pfn import PFN
    from bayesdl.checks.calibration import sbc
    from bayesdl.checks.loo import compare
    from bayesdl.checks.prior import prior_predictive
    from bayesdl.data.validation import DataError, ModelError
    from bayesdl.engines import *  # noqa: F403
    from bayesdl.engines import UnsupportedError
    from bayesdl.fitting import fit
    from bayesdl.functional.match import match_prior, prior_report
    from bayesdl.functional.report import PriorMismatch
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
    from bayesdl.saving.report import report
    from inference.core.checkpoint import CheckpointError

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
        "report",
        "sbc",
        "sparse",
        "tensor",
        "vi",
    ]
    __all__ += engines.__all__
    __all__ += models.__all__

__version__ = "0.1.0"

# Everything is imported when it is first used, so that `import bayesdl` is quick, and a name that
# is not used costs nothing. Here stands where. Models and engines are listed in
# `bayesdl.models` and `bayesdl.engines` alone.
_HOMES = {
    "PFN": "bayesdl.amortized.pfn",
    "Bernoulli": "bayesdl.model.likelihoods",
    "BundleError": "bayesdl.saving.archive",
    "Categorical": "bayesdl.model.likelihoods",
    "CheckpointError": "inference.core.checkpoint",
    "DataError": "bayesdl.data.validation",
    "ModelError": "bayesdl.data.validation",
    "NegativeBinomial": "bayesdl.model.likelihoods",
    "Normal": "bayesdl.model.likelihoods",
    "Poisson": "bayesdl.model.likelihoods",
    "Posterior": "bayesdl.posterior.posterior",
    "PriorMismatch": "bayesdl.functional.report",
    "StudentT": "bayesdl.model.likelihoods",
    "UnsupportedError": "bayesdl.engines",
    "compare": "bayesdl.checks.loo",
    "fit": "bayesdl.fitting",
    "load": "bayesdl.saving.bundle",
    "match_prior": "bayesdl.functional.match",
    "predict_file": "bayesdl.saving.predictions",
    "prior_predictive": "bayesdl.checks.prior",
    "prior_report": "bayesdl.functional.match",
    "report": "bayesdl.saving.report",
    "sbc": "bayesdl.checks.calibration",
}
_PARTS = (
    "amortized",
    "effects",
    "kernels",
    "mcmc",
    "priors",
    "recommend",
    "sparse",
    "tensor",
    "vi",
)
# Submodules that users import, but that `from bayesdl import *` leaves out.
LAZY = ("plots", "sklearn")
# Submodules that are no public names; the first two list the engines and the models.
_LISTS = ("engines", "models")
_OTHERS = ("typing", "warnings")


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name == "__all__":
        return _public_names()
    if name in (*_PARTS, *LAZY, *_LISTS, *_OTHERS):
        return _importlib.import_module(f"bayesdl.{name}")
    if name.startswith("_"):
        raise _unknown(name)
    home = _HOMES.get(name) or next(
        (f"bayesdl.{part}" for part in _LISTS if name in _listed(part)), None
    )
    if home is None:
        raise _unknown(name)
    value = globals()[name] = getattr(_importlib.import_module(home), name)
    return value


def _public_names() -> list[str]:
    """Return what `from bayesdl import *` gives."""
    return [*_HOMES, *_PARTS, *(name for part in _LISTS for name in _listed(part))]


def _listed(part: str) -> list[str]:
    """Return the names of the engines, or of the models."""
    return _importlib.import_module(f"bayesdl.{part}").__all__


def _unknown(name: str) -> AttributeError:
    return AttributeError(f"module 'bayesdl' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted({*_public_names(), *LAZY, "__version__"})
