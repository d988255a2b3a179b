"""Functional tensors (FunBaT): products of functions of one index each.

    bayesdl.tensor.mode(post, "day").predict(x)
    post = bayesdl.tensor.update(post, X, y)

`mode.py` is one index, `spec.py` the model and its data. `program.py` is its NumPyro program with
whitened states, and the predictive distribution given a draw. The model's `build_problem` offers a
`StateSpaceTensor`: sorted positions, the position of each entry, and a function from
hyperparameters to kernels, which `inference/messages` fits. `fitted.py` is what only fits by
message passing can do.
"""

from bayesdl.tensor.fitted import FittedMode, LatentFunctions, mode, modes, update
from bayesdl.tensor.mode import Mode
from bayesdl.tensor.spec import FunBaT

__all__ = ["FittedMode", "FunBaT", "LatentFunctions", "Mode", "mode", "modes", "update"]
