"""Small problems for tests of sparse subspace VI."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import bayesdl as bdl
from inference.core.keys import named_key
from inference.sparse.engine import SSVI
from inference.sparse.training.training import build_training
from inference.sparse.variational.sites import scale_of


def regression(rows=60, columns=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns))
    return X, np.sin(X[:, 0]) + 0.5 * X[:, 1] + 0.1 * rng.normal(size=rows)


def make_training(model, X, y, key=0, **settings):
    """Return a run's functions, its start and its data."""
    problem = model.problem(model.learn_schema(X, y), X, y)
    engine = SSVI(**{"density": 0.3, "batch_size": 16} | settings)
    training = build_training(engine, problem, jax.random.key(key))
    state = jax.jit(training.initial_state)(named_key(training.key, "start"))
    return training, state, jax.tree.map(jnp.asarray, (problem.args, dict(problem.kwargs)))


def moments_of(state):
    leaves = state.params["weights"]
    return {n: leaf["mean"] for n, leaf in leaves.items()}, {
        n: scale_of(leaf["raw"]) for n, leaf in leaves.items()
    }


@functools.cache
def fitted(structure="unstructured"):
    X, y = regression(200)
    engine = SSVI(steps=600, density=0.4, structure=structure)
    return bdl.fit(bdl.BNN(hidden=(24, 24)), X, y, engine=engine, progress=False)


def images(rows=120):
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X[:rows] / 16, y[:rows]


def mean_gradient(function, values, key):
    """Return the mean gradient over the minibatches of an exchange."""
    split = jax.random.split(key, SSVI().growth_batches)
    keys = [split[i] for i in range(len(split))]
    return jax.jit(jax.grad(lambda v: jnp.mean(jnp.stack([function(v, key) for key in keys]))))(
        values
    )
