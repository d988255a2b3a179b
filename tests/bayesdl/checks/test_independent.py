"""Independent draws, of an engine written here: no R-hat, no chains that disagree."""

import dataclasses

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdl as bdl
from bayesdl.warnings import TrustWarning
from inference.core.engine import AbstractEngine
from inference.core.findings import Finding
from inference.core.keys import named_key
from inference.core.progress import Silent
from inference.core.result import Draws

Y = np.linspace(0.5, 1.5, 8)


@dataclasses.dataclass(frozen=True)
class Importance(AbstractEngine):
    """Importance resampling: draws from the prior, chosen by their likelihood."""

    num_samples: int = 400
    num_proposals: int = 4000

    def supports(self, problem):
        return None if problem.latents else "there is nothing to infer"

    def infer(self, problem, *, key, progress=Silent()):
        keys = jax.random.split(named_key(key, "prior"), self.num_proposals)
        drawn = jax.vmap(problem.prior_sample)(keys)
        weights = jax.vmap(lambda mu: dist.Normal(mu, 1.0).log_prob(Y).sum())(drawn["mu"])
        index = jax.random.categorical(named_key(key, "choice"), weights, shape=(self.num_samples,))
        samples = {"mu": np.asarray(drawn["mu"][index])[None]}
        return Draws(samples, {}, {"proposals": self.num_proposals}, independent=True)

    def restore(self, problem, arrays, info):
        return Draws.from_arrays(arrays, info)

    def findings(self, problem, result, facts):
        few = result.info["proposals"] < 100
        return (Finding("There are few proposals", "raise num_proposals"),) if few else ()


def program(y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("rows", len(Y)):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def fit(**settings):
    return bdl.fit(program, y=Y, engine=Importance(**settings), progress=False)


def test_independent_draws_have_no_chains():
    post = fit()
    diagnosis = post.diagnose()
    assert diagnosis.ok, diagnosis
    assert diagnosis.facts == {"ess (smallest)": 400.0}
    assert diagnosis.verdict[0].startswith("Draws are independent: at least 400 effective draws")
    assert np.isnan(diagnosis.table["rhat"]).all()
    assert "400 independent draws" in repr(post)
    assert "r_hat" not in post.summary().columns
    assert abs(post.samples["mu"].mean() - Y.sum() / 9) < 4 * np.sqrt(2 / 9 / 400)
    with pytest.raises(ValueError, match="no chains"):
        bdl.plots.trace(post)
    with pytest.raises(bdl.UnsupportedError, match="no chains to continue"):
        bdl.mcmc.extend(post, 10)


def test_too_few_draws_and_what_the_engine_says():
    with pytest.warns(TrustWarning, match="There are 50 independent draws, below 100"):
        fit(num_samples=50).diagnose()
    with pytest.warns(TrustWarning, match="few proposals: raise num_proposals"):
        fit(num_proposals=50).diagnose()


def test_saved_draws_remember_that_they_are_independent():
    raw = fit().raw
    again = Draws.from_arrays(raw.arrays(), raw.info)
    assert again.independent and again.label == raw.label
    chains = Draws.from_arrays({"samples/mu": np.zeros((2, 5))}, {})
    assert not chains.independent and chains.label == "2 chains x 5 draws"
