"""Variational inference: what is refused, minibatches, and the guides' order."""

import warnings

import numpy as np
import pytest

import bayesdl as bdl
from inference.core.problem import ProblemError

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
Y = X @ [1.0, -1.0, 0.5] + 0.3 * rng.normal(size=60)


@pytest.mark.slow
def test_divergence_is_an_error_with_a_cure():
    with pytest.raises(
        ProblemError, match=r"VI diverged: the ELBO went from .* Lower learning_rate"
    ):
        bdl.fit(
            bdl.BNN(hidden=(10,)),
            X,
            Y,
            engine=bdl.VI(learning_rate=30.0, steps=300),
            progress=False,
        )


@pytest.mark.slow
def test_richer_guides_have_larger_evidence_bounds():
    """In a linear model the full-rank guide contains the posterior; the others restrict it."""
    elbo = {}
    for guide in ("mean-field", "low-rank", "full-rank"):
        engine = bdl.VI(guide=guide, steps=4000, num_particles=4)
        post = bdl.fit(
            bdl.BNN(hidden=()), X * [1, 1, 0.1] + X[:, :1], Y, engine=engine, progress=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a poor guide is the point here
            facts = post.diagnose().facts
        elbo[guide] = facts["elbo"], facts["elbo standard error"]
    for poor, rich in (("mean-field", "full-rank"), ("low-rank", "full-rank")):
        assert elbo[rich][0] > elbo[poor][0] - 4 * np.hypot(elbo[rich][1], elbo[poor][1])
    assert elbo["full-rank"][0] > elbo["mean-field"][0] + 4 * elbo["mean-field"][1]


@pytest.mark.slow
def test_minibatches_reach_the_same_fit():
    """Means are within a fifth of a posterior standard deviation of the full-batch fit.

    That is what the last, small steps leave.
    """
    fits = [
        bdl.fit(
            bdl.BNN(hidden=()), X, Y, engine=bdl.VI(steps=4000, batch_size=size), progress=False
        )
        for size in (None, 20)
    ]
    draws = [
        np.concatenate([v.reshape(5000, -1) for v in fit.sample(5000).values()], axis=1)
        for fit in fits
    ]
    assert np.all(np.abs(draws[0].mean(0) - draws[1].mean(0)) < 0.2 * draws[0].std(0))
