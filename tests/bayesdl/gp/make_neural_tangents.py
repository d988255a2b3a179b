"""Write `neural_tangents.npz`: kernel matrices of neural-tangents 0.6.5 at random rows.

neural-tangents does not import under a recent JAX. In an environment of its own:

    pip install jax==0.4.20 jaxlib==0.4.20 "numpy<2" "scipy<1.12" frozendict typing_extensions
    pip install --no-deps neural-tangents==0.6.5     # and empty its experimental/__init__.py
    python make_neural_tangents.py neural_tangents.npz
"""

import sys

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
from neural_tangents import stax  # noqa: E402

rng = np.random.default_rng(0)
X1 = rng.normal(size=(6, 3))
X2 = np.concatenate([X1[:2], -X1[2:3], rng.normal(size=(2, 3))])
out = {"X1": X1, "X2": X2}
acts = {
    "relu": stax.Relu,
    "leaky_relu": lambda: stax.LeakyRelu(0.01),
    "erf": stax.Erf,
    "gelu": lambda: stax.Gelu(),
    "sine": lambda: stax.Sin(),
    "cosine": lambda: stax.Cos(),
}
for name, act in acts.items():
    for depth in (1, 3, 10):
        layers = []
        for _ in range(depth):
            layers += [stax.Dense(1, W_std=1.3, b_std=0.2), act()]
        layers.append(stax.Dense(1, W_std=0.9, b_std=0.2))
        _, _, k = stax.serial(*layers)
        r = k(X1, X2, ("nngp", "ntk"))
        out[f"{name}/{depth}/nngp"] = np.asarray(r.nngp)
        out[f"{name}/{depth}/ntk"] = np.asarray(r.ntk)
np.savez_compressed(sys.argv[1], **out)
