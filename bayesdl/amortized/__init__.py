"""Prior-data fitted networks: training on a prior, answers in one forward pass, priors made for it.

In the order in which data flow:

- `random_bnn`, `tables` and `prior_mixture` are models made for training networks; any table model
  or NumPyro function will do too. A model says by `simulator` how data sets are drawn from it.
- `settings` has the settings of a training. `requirements` checks them and the model, and
  `training` trains and certifies a network. `trained_network` is the result, which `saving` writes
  to a file and reads from it.
- `certificate` says in words what a network is worth, and `comparison` measures it against another
  engine.
- `pfn` is the engine `PFN`, which fits by one forward pass. `context` turns the data of a problem
  into what the network reads, and says what of them lies outside the training.
- `fitted` has the functions of a posterior that only fits with a `PFN` have: `ood` and `latent`.
- `pretrained/` has the networks that ship with bayesdl.

The networks themselves are in `inference.amortized`. Sites of the weights are named in files as the
fields of the networks are, so these names stay.
"""

import importlib
from typing import TYPE_CHECKING

from bayesdl.amortized.prior_mixture import PriorMixture
from bayesdl.amortized.random_bnn import RandomBNN
from bayesdl.amortized.tables.spec import RandomTable

if TYPE_CHECKING:
    from bayesdl.amortized.fitted import latent, ood
    from bayesdl.amortized.pfn import PFN
    from bayesdl.amortized.settings import Training

# Names that are imported when they are first used: networks need Optax and Equinox, which
# `import bayesdl` does without.
LAZY = {"PFN": "pfn", "Training": "settings", "latent": "fitted", "ood": "fitted"}


def __getattr__(name: str) -> object:
    """Import a name of `LAZY` when it is first used."""
    if name not in LAZY:
        raise AttributeError(f"module 'bayesdl.amortized' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bayesdl.amortized.{LAZY[name]}"), name)


__all__ = ["PFN", "PriorMixture", "RandomBNN", "RandomTable", "Training", "latent", "ood"]
