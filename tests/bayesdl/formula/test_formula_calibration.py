"""Formulas by simulation: ranks of the truth among posterior draws are uniform."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayesdl as bdl

ENGINE = bdl.NUTS(num_warmup=300, num_samples=60, thinning=5)
GROUPS, ROWS = 8, 5


def plan():
    """The columns of a small study; responses only tell their kind, as new ones are simulated."""
    random = np.random.default_rng(0)
    rows = GROUPS * ROWS
    return pd.DataFrame(
        {
            "x": random.normal(size=rows),
            "g": np.repeat(list("abcdefgh"), ROWS),
            "y": random.normal(size=rows),
        }
    )


SLOPE = {"x": dist.Normal(0.0, 1.0)}
GROUP = {"Intercept": dist.Normal(0.0, 1.0), "sd_g": dist.HalfNormal(1.0)}
MODELS = {
    "intercepts": bdl.Formula("y ~ x + (1 | g)", priors=SLOPE | GROUP),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(MODELS))
def test_ranks_of_the_truth_are_uniform(kind):
    result = bdl.sbc(MODELS[kind], plan(), engine=ENGINE, progress=False)
    assert result.ok, result
