"""Posteriors of given draws, for tests of files and names that need no fit."""

import numpy as np

import bayesdl as bdl
from bayesdl.model.names import learn_names
from bayesdl.model.program import as_model
from bayesdl.posterior.posterior import Posterior
from inference.core.result import Draws
from inference.terms import fixed_point


def drawn(model, *data, coords=None, dims=None, **named):
    """Return a posterior of ten draws around a fixed point, without a fit."""
    spec = as_model(model)
    schema = spec.learn_schema(*data, **named)
    problem = spec.problem(schema, *data, **named)
    names = learn_names(problem, coords, dims)
    stretch = np.linspace(0.9, 1.1, 10, dtype=np.float32)
    stretch = stretch + np.array([[0.0], [0.01]], np.float32)
    samples = {
        name: value * stretch.reshape(2, 10, *[1] * value.ndim)
        for name, value in fixed_point(problem).items()
    }
    result = Draws(samples, {"diverging": np.zeros((2, 10), bool)})
    engine = bdl.NUTS(num_samples=10, num_chains=2)
    return Posterior(spec, schema, problem, engine, result, 0, names)
