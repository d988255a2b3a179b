"""Posteriors of linear models whose draws are made by hand, for tests that no engine concerns."""

import dataclasses

import numpy as np
from drawn_posteriors import drawn

from inference.core.result import Draws


def linear(spec, X, y, spread=0.1, draws=50):
    """Return a posterior of `bdl.BNN(hidden=())` whose draws lie around least squares.

    Args:
        spec: the linear model.
        X: the training rows.
        y: their targets.
        spread: the standard deviation of each weight, and of log sigma.
        draws: the number of draws.
    """
    post = drawn(spec, X, y)
    inputs, target = (np.asarray(arg, np.float64) for arg in post.problem.args)
    outputs, columns = post.raw.samples["layer0.weight"].shape[2:]
    if spec.kind == "class":
        labels = np.arange(outputs) if outputs > 1 else np.array([1])
        target = 4.0 * (target[:, None] == labels) - 2
    elif spec.kind == "count":
        target = np.log(target + 0.5)
    target = target.reshape(len(inputs), -1)
    design = np.column_stack([inputs, np.ones(len(inputs))])
    found = np.linalg.lstsq(design, target, rcond=None)[0]
    # weights are divided by the root of their number of inputs ("ntk")
    means = {"layer0.weight": found[:-1].T * np.sqrt(columns), "layer0.bias": found[-1]}
    rng = np.random.default_rng(0)
    sites = {
        name: mean + spread * rng.normal(size=(1, draws, *mean.shape))
        for name, mean in means.items()
    }
    if "sigma" in post.raw.samples:
        sigma = np.std(target - design @ found, axis=0)
        shape = (1, draws, *post.raw.samples["sigma"].shape[2:])
        sites["sigma"] = sigma.reshape(shape[2:]) * np.exp(spread * rng.normal(size=shape))
    samples = {name: value.astype(np.float32) for name, value in sites.items()}
    return dataclasses.replace(post, raw=Draws(samples, {"diverging": np.zeros((1, draws), bool)}))
