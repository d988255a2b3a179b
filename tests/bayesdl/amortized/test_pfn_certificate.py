"""The certificate of a network, its gap to other engines, and data that are unlike its prior."""

import dataclasses
import warnings

import numpy as np
import pytest
from amortized_toys import normal_mean
from scipy import stats

import bayesdl as bdl
from bayesdl import amortized
from bayesdl.warnings import TrustWarning


@pytest.mark.slow
def test_data_unlike_the_prior_are_found(trained):
    """The p-value is uniform for data of the prior, and small for targets five times as large."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(10, 1))

    def p_of(y):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The data are outside")
            post = bdl.fit(normal_mean, X, y, engine=trained, progress=False)
        return amortized.ood(post, 99).p

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The data are unlike")  # one in fifty
        p = [p_of(rng.normal() + rng.normal(size=10)) for _ in range(40)]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    with pytest.warns(UserWarning, match="unlike the prior's data"):
        assert p_of(5 * rng.normal(size=10)) <= 0.02
    nuts = bdl.NUTS(num_warmup=10, num_samples=10, num_chains=1)
    with pytest.raises(bdl.UnsupportedError, match="ood needs a fit with a PFN"):
        amortized.ood(bdl.fit(normal_mean, X, X[:, 0], engine=nuts, progress=False))


@pytest.mark.slow
def test_the_gap_to_another_engine_is_part_of_the_certificate(trained, tmp_path):
    """NUTS is exact up to Monte Carlo error here, so the gap to it is that to the closed form."""
    again = trained.certify(
        bdl.NUTS(num_warmup=200, num_samples=300, num_chains=1), num_tasks=12, progress=False
    )
    gap, error = again.certificate["engine"]["gap"]
    assert abs(gap) < 0.05 + 4 * error
    assert "gap to NUTS" in again.line and "gap not known" in trained.line
    assert (
        bdl.PFN.load(again.save(tmp_path / "mean.pfn"), model=normal_mean).certificate["engine"][
            "num_tasks"
        ]
        == 12
    )


@pytest.mark.slow
def test_the_other_engine_may_be_left_to_us(trained):
    again = trained.certify("auto", num_tasks=1, num_rows=4, progress=False)
    assert again.certificate["engine"]["name"] == "NUTS"
    with pytest.raises(bdl.UnsupportedError, match="Engines that can: "):
        trained.certify("exact-gp", num_tasks=1, num_rows=4, progress=False)


def test_what_diagnose_says(trained):
    post = bdl.fit(
        normal_mean, np.zeros((7, 1)), np.arange(7.0) / 7, engine=trained, progress=False
    )
    assert "that of a PFN" in post.diagnose().verdict[0]
    with pytest.warns(UserWarning):
        outside = bdl.fit(
            normal_mean, np.zeros((12, 1)), np.arange(12.0) / 12, engine=trained, progress=False
        )
    with pytest.warns(UserWarning, match="12 rows, trained for at most 10"):
        assert not outside.diagnose().ok


def test_what_a_certificate_says_against_a_network_is_in_the_diagnosis(trained):
    rows = [row | {"p_uniform": 1e-4} for row in trained.certificate["rows"]]
    engine = {"name": "NUTS", "gap": (0.3, 0.05), "num_tasks": 2, "num_rows": 5}
    doubtful = dataclasses.replace(
        trained, certificate=trained.certificate | {"rows": rows, "engine": engine}
    )
    post = bdl.fit(normal_mean, np.zeros((5, 1)), np.arange(5.0), engine=doubtful, progress=False)
    with pytest.warns(TrustWarning):
        verdict = " ".join(post.diagnose().verdict)
    assert (
        "loses 0.3 nats" in verdict
        and "not calibrated" in verdict
        and "2 data sets of 5 rows" in verdict
    )


@pytest.mark.slow
def test_the_shipped_regression_network_is_near_maximum_likelihood():
    """Nats lost a row to the same model by maximum likelihood, over eight smooth data sets."""
    pfn, rng, lost = bdl.PFN.pretrained("gp-regression"), np.random.default_rng(0), []
    for _ in range(8):
        X = rng.normal(size=(60, 2))
        X = (X - X.mean(0)) / X.std(0)
        y = np.sin(X[:, 0]) + 0.5 * np.cos(X[:, 1]) + 0.2 * rng.normal(size=60)
        exact = bdl.fit(
            pfn.model,
            X[:40],
            y[:40],
            engine=bdl.ExactGP(hyperparameters="map", num_restarts=1),
            progress=False,
        ).predict(X[40:])
        ours = bdl.fit(pfn.model, X[:40], y[:40], engine=pfn, progress=False).predict(X[40:])
        lost.append(np.mean(exact.log_prob(y[40:]) - ours.log_prob(y[40:])))
    assert np.mean(lost) < 0.3 + 4 * np.std(lost) / np.sqrt(8)


def test_the_shipped_classifier_has_no_other_engine_to_compare_with():
    pfn = bdl.PFN.pretrained("tabular-classification")
    with pytest.raises(bdl.UnsupportedError, match="No other engine"):
        pfn.certify(bdl.NUTS())
    rng = np.random.default_rng(0)
    with pytest.raises(bdl.UnsupportedError, match="12 classes"):
        bdl.fit(pfn.model, rng.normal(size=(60, 3)), np.arange(60) % 12, engine=pfn, progress=False)


def test_the_posterior_of_a_latent_site_is_learned(trained):
    """mu | data ~ N(sum / (n + 1), 1 / (n + 1)).

    Over data sets q's cdf is uniform, as the certificate says.
    """
    rng = np.random.default_rng(1)
    y = rng.normal(size=10) + 1.0
    post = bdl.fit(normal_mean, rng.normal(size=(10, 1)), y, engine=trained, progress=False)
    mu = amortized.latent(post, "mu")
    assert float(mu.mean) == pytest.approx(y.sum() / 11, abs=0.15)
    low, high = mu.interval(0.9)
    assert low < y.sum() / 11 < high
    (found,) = trained.certificate["latents"]
    assert found["site"] == "mu" and found["p_uniform"] > 0.001
    n = np.arange(11)
    share = (n + 1) / 11
    weight = (
        1 / 11 + share**2 - (n / 11) ** 2
    ) / 2  # half of the contexts are uniform, half the larger of two
    exact = np.sum(weight * stats.norm.entropy(scale=1 / np.sqrt(n + 1)))
    assert found["nll"] - exact < 0.1 + 4 * np.sqrt(
        0.5 / 512
    )  # log density of a normal distribution has variance 1/2
    assert found["nll_of_prior"] - stats.norm.entropy() < 0.1 + 4 * np.sqrt(0.5 / 512)
    with pytest.raises(bdl.UnsupportedError, match=r"no latent site of this name; .* 'mu'"):
        amortized.latent(post, "sigma")
