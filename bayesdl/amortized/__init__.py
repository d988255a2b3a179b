"""Prior-data fitted networks: training on a prior, answers in one forward pass, and priors made for it."""

import importlib
from typing import TYPE_CHECKING

from bayesdl.amortized.prior_mixture import PriorMixture
from bayesdl.amortized.random_bnn import RandomBNN

if TYPE_CHECKING:
    from bayesdl.amortized.fitted import latent, ood
    from bayesdl.amortized.pfn import PFN

# Names that are imported when they are first used: the network needs Optax and Equinox, which `import bayesdl` does without.
LAZY = {"PFN": "pfn", "latent": "fitted", "ood": "fitted"}


def __getattr__(name: str) -> object:
    """Import `PFN`, `latent` and `ood` when they are first used."""
    if name not in LAZY:
        raise AttributeError(f"module 'bayesdl.amortized' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bayesdl.amortized.{LAZY[name]}"), name)


__all__ = ["PFN", "PriorMixture", "RandomBNN", "latent", "ood"]
