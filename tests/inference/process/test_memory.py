"""Settings that ask for more memory than there is are refused with the number."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdl as bdl
from inference.process.memory import MemoryBoundError, require_memory, whole_memory

X = np.linspace(-1, 1, 10)[:, None]
Y = X[:, 0]
HUGE = 2**31 - 1


def program(y):
    m = numpyro.sample("m", dist.Normal(0, 1).expand([1000]).to_event(1))
    numpyro.sample("y", dist.Normal(m.sum(), 1).expand([10]).to_event(1), obs=y)


def test_what_fits_is_let_through():
    require_memory(whole_memory(), "all", "none")
    with pytest.raises(MemoryBoundError, match=r"all would need .* GB of memory, .*: none"):
        require_memory(2 * whole_memory(), "all", "none")


@pytest.mark.parametrize("setting", ["num_samples", "num_chains"])
def test_chains_beyond_memory_are_refused(setting):
    engine = bdl.NUTS(**{"num_chains": 1, "num_warmup": 1} | {setting: HUGE})
    with pytest.raises(ValueError, match=f"NUTS.*{setting}={HUGE}.* would need .* GB"):
        bdl.fit(program, Y, engine=engine, progress=False)


def test_a_model_beyond_memory_is_refused():
    with pytest.raises(ValueError, match=r"would need .* GB of memory"):
        bdl.fit(bdl.BNN(hidden=(10**6, 10**7)), X, Y, engine=bdl.NUTS(), progress=False)


def test_samples_beyond_memory_are_refused():
    post = bdl.fit(bdl.GP(), X, Y, engine=bdl.ExactGP(num_restarts=1), progress=False)
    with pytest.raises(ValueError, match=f"sample.*{HUGE}.* of 10000 numbers each would"):
        post.predict(np.zeros((10_000, 1))).sample(HUGE)
