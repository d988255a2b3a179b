"""Samplers with minibatches on housing data: against a closed form and HMC."""

import dataclasses

import jax
import numpy as np
import pytest
from sgmcmc_toys import UNBIASED, against_exact, simulated

import bayesdl as bdl


def boston_regression(reference):
    data = reference.uci("boston")
    rows = ~data["test"][0]
    X, y = data["X"][rows], data["y"][rows]
    X, y = (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()
    return np.c_[np.ones(len(X)), X], y


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "low", "high"), [(None, 0.97, 1.03), (32, 0.9, 1.1)])
def test_conjugate_regression_on_boston(batch_size, low, high, reference):
    """Every sd ratio is within the limits, and every mean within a tenth of an sd."""
    if batch_size is None:
        engine = bdl.SGHMC(2000, 4000, 4, 20, batch_size=None, step_size=0.3)
    else:
        engine = bdl.SGHMC(10_000, 4000, 4, 150, batch_size=batch_size)
    _, _, _, ratio, shift = against_exact(engine, *boston_regression(reference))
    assert low < ratio.min() and ratio.max() < high
    assert shift.max() < 0.1


# with HMC's known RMSE, NLL of the moments, and mean sd of the function in standardised units
BOSTON_PRIORS = {
    "N(0, 1)": (bdl.priors.LayerGaussian(), (2.53, 0.02), (2.388, 0.01), (0.109, 0.005)),
    "matched": (
        bdl.priors.LayerGaussian((2.908, 1.43), (2.422, 0.161)),
        (2.42, 0.02),
        (2.404, 0.01),
        (0.187, 0.008),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOSTON_PRIORS)
def test_boston_network_against_hmc(reference, name):
    """The network of the functional-priors literature, split 0.

    HMC has its known figures, and SGHMC with 128 rows is compared with HMC.
    """
    from scipy import stats

    from bayesdl.posterior.streaming import means

    prior, (rmse, *of_rmse), (nll, *of_nll), (sd, *of_sd) = BOSTON_PRIORS[name]
    data = reference.uci("boston")
    test = data["test"][0]
    X, y, X_new, y_new = data["X"][~test], data["y"][~test], data["X"][test], data["y"][test]
    model = bdl.BNN(
        hidden=(100,), prior=prior, likelihood=bdl.Normal(scale=float(np.sqrt(0.1) * y.std()))
    )

    def fitted(engine):
        prediction = bdl.fit(model, X, y, engine=engine, progress=False).predict(X_new)
        return prediction, np.asarray(prediction.stream.map(means, axis=1), dtype=float)

    prediction, exact_values = fitted(
        bdl.HMC(500, 500, 4, num_steps=100, start="prior", chain_method="vectorized")
    )
    assert np.sqrt(np.mean((prediction.mean - y_new) ** 2)) == pytest.approx(rmse, abs=of_rmse[0])
    assert -stats.norm.logpdf(y_new, prediction.mean, prediction.std).mean() == pytest.approx(
        nll, abs=of_nll[0]
    )
    assert prediction.epistemic.mean() / y.std() == pytest.approx(sd, abs=of_sd[0])
    if name == "matched":
        return

    _, values = fitted(bdl.SGHMC(10_000, 2000, 4, 100, batch_size=128))
    ratio = values.std(0) / exact_values.std(0)
    shift = np.abs(values.mean(0) - exact_values.mean(0)) / exact_values.std(0)
    assert 0.95 < np.median(ratio) < 1.08
    assert shift.mean() < 0.15


@pytest.mark.slow
def test_several_rows_and_devices_change_nothing_in_distribution():
    assert jax.device_count() == 2
    X, y = simulated()
    for method in ("sequential", "vectorized", "parallel"):
        engine = dataclasses.replace(UNBIASED["SGHMC, all rows"], num_chains=2, chain_method=method)
        _, mean_z, sd_z, _, _ = against_exact(engine, X, y)
        assert max(np.abs(mean_z).max(), np.abs(sd_z).max()) < 4
