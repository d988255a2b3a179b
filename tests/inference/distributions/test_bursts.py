"""The prior of bursts, by itself against sums over all supports, and in sparse subspace VI."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sparse_toys import make_training

import bayesdl as bdl
from bayesdl.checks.convergence import TrustWarning
from inference.distributions.bursts import Bursts, forward_backward, log_marginal
from inference.sparse.engine import SSVI
from inference.sparse.patterns.pattern import Pattern
from inference.sparse.patterns.support import SupportEvidence, inclusion_probability, log_odds
from inference.sparse.variational.divergence import kl_of_weights

LAW = Bursts(1.3, 0.1, 0.25, 3.0, 5.0, (2, 4))


def law_of_supports(states):
    """P(s) of one row by the definition of the chain."""
    leave, enter = 1 / LAW.length, LAW.share / (1 - LAW.share) / LAW.length
    p = LAW.share if states[0] else 1 - LAW.share
    for before, now in itertools.pairwise(states):
        stay = 1 - leave if before else 1 - enter
        p *= stay if now == before else 1 - stay
    return p


def rows_of(weights):
    """For each row and each support: P(s) p(w | s)."""
    for w in weights:
        yield {
            s: law_of_supports(s)
            * stats.t.pdf(w, LAW.df, 0, np.where(s, LAW.slab, LAW.spike)).prod()
            for s in itertools.product((0, 1), repeat=len(w))
        }


def test_density_is_the_sum_over_all_supports():
    weights = np.random.default_rng(0).normal(size=(3, 2, 4)) * np.array([1.0, 0.1, 0.1, 2.0])
    expected = [sum(np.log(sum(row.values())) for row in rows_of(w)) for w in weights]
    np.testing.assert_allclose(LAW.log_prob(jnp.asarray(weights)), expected, rtol=1e-5)


def test_draws_follow_the_density():
    """Marginals by Kolmogorov-Smirnov; neighbours by the covariance of what is large.

    It fails by chance once in 10,000 runs.
    """
    draws = np.asarray(LAW.sample(jax.random.key(0), (20_000,)), float)

    def cdf(w):
        return LAW.share * stats.t.cdf(w, LAW.df, 0, LAW.slab) + (1 - LAW.share) * stats.t.cdf(
            w, LAW.df, 0, LAW.spike
        )

    for place in ((0, 0), (1, 3)):
        assert stats.kstest(draws[:, *place], cdf).pvalue > 1e-4
    assert float(LAW.variance[0, 0]) == pytest.approx((0.25 * 1.69 + 0.75 * 0.01) * 5 / 3)
    large = abs(draws) > 0.5
    of_slab, of_spike = (2 * stats.t.sf(0.5, LAW.df, 0, s) for s in (LAW.slab, LAW.spike))
    for gap in (1, 2, 3):
        pairs = sum(
            law_of_supports(s) * np.prod([of_slab if s[i] else of_spike for i in (0, gap)])
            for s in itertools.product((0, 1), repeat=4)
        )
        both = large[:, 0, 0] & large[:, 0, gap]
        assert abs(both.mean() - pairs) < 4 * np.sqrt(pairs * (1 - pairs) / len(both))
    across = large[:, 0, 3] & large[:, 1, 0]  # rows are independent
    apart = (LAW.share * of_slab + (1 - LAW.share) * of_spike) ** 2
    assert abs(across.mean() - apart) < 4 * np.sqrt(apart / len(across))


def known(numbers, weights):
    log = LAW.evidence(jnp.asarray(weights, jnp.float32) ** 2)
    return SupportEvidence(LAW, jnp.asarray(numbers), 4, log)


def test_supports_and_prospects_are_those_of_the_sum():
    """Entries 1, 3 of the first row and 2 of the second are active; the others are unknown."""
    weights = np.array([0.9, 0.12, 0.3])
    found = known([1, 3, 6], weights)
    expected = np.zeros(8)
    rows = [{1: 0.9, 3: 0.12}, {2: 0.3}]
    for r, row in enumerate(rows):
        total, on = 0.0, np.zeros(4)
        for s in itertools.product((0, 1), repeat=4):
            p = law_of_supports(s)
            for place, w in row.items():
                p *= stats.t.pdf(w, LAW.df, 0, LAW.slab if s[place] else LAW.spike)
            total, on = total + p, on + p * np.array(s)
        expected[4 * r : 4 * r + 4] = on / total
    inactive = np.array([0, 2, 4, 5, 7])
    np.testing.assert_allclose(
        inclusion_probability(found)(jnp.asarray(inactive)), expected[inactive], rtol=1e-5
    )
    odds = np.asarray(log_odds(found, Pattern((2, 4), (1, 1), False, 3)), float)[0]
    np.testing.assert_allclose(
        odds, np.log(expected[[1, 3, 6]] / (1 - expected[[1, 3, 6]])), rtol=1e-4
    )


def test_long_chains_neither_overflow_nor_forget_their_rows():
    numbers = jnp.arange(3000)
    log = LAW.evidence(jnp.where(numbers % 7 < 3, 4.0, 1e-6))
    known = jax.jit(
        lambda numbers, log: forward_backward(LAW.chain, LAW.chain.decays(numbers, 1000), log)
    )(numbers, log)
    assert np.isfinite(known.forward).all() and np.isfinite(known.after).all()
    total = jax.jit(
        lambda numbers, log: log_marginal(LAW.chain, LAW.chain.decays(numbers, 1000), log)
    )
    parts = [total(numbers[:1000], log[i : i + 1000]) for i in range(0, 3000, 1000)]
    assert float(total(numbers, log)) == pytest.approx(float(sum(parts)), rel=1e-5)


def network_and_data():
    """Six adjacent inputs of forty matter."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 40))
    return X, X[:, 10:16] @ np.array([1.0, -0.8, 0.9, 1.1, -1.0, 0.8]) + 0.3 * rng.normal(size=300)


@pytest.mark.parametrize(
    "structure",
    [
        "neurons",
        *(pytest.param(s, marks=pytest.mark.slow) for s in ("unstructured", "fan_in", "block:8")),
    ],
)
def test_divergence_is_an_upper_bound_and_tight_for_sure_weights(structure):
    """The bound with the best q(r, s): above E_q[log q - log p(w)], and tight without spread."""
    model = bdl.BNN(hidden=(16, 16), prior=bdl.priors.Bursts(slab=1.0, spike=0.2))
    training, state, _ = make_training(model, *network_and_data(), structure=structure, density=0.6)
    layout, priors = training.layout, training.priors_at_centre(state.params)
    mean = {n: leaf["mean"] for n, leaf in state.params["weights"].items()}
    draws = 400

    def excess(sd, key):
        keys = jax.random.split(key, draws)
        kl = kl_of_weights(layout, state.index, mean, sd, priors, key)

        def one(key):
            noise = {
                n: jax.random.normal(jax.random.fold_in(key, i), m.shape)
                for i, (n, m) in enumerate(mean.items())
            }
            w = {n: mean[n] + sd[n] * noise[n] for n in mean}
            tiny = {n: jnp.full_like(s, 1e-6) for n, s in sd.items()}
            # At a point the bound is log p, and the entropy of the point is left of the divergence.
            log_p = -kl_of_weights(layout, state.index, w, tiny, priors, key) - entropy(tiny)
            log_q = sum(
                jnp.where(
                    layout.patterns[n].inside_mask(state.index[n]),
                    -0.5 * noise[n] ** 2 - jnp.log(sd[n]) - half_log,
                    0.0,
                ).sum()
                for n in mean
            )
            return log_q - log_p

        half_log = 0.5 * np.log(2 * np.pi)

        def entropy(sd):
            each = 0.5 * np.log(2 * np.pi * np.e)
            return sum(
                jnp.where(
                    layout.patterns[n].inside_mask(state.index[n]), each + jnp.log(sd[n]), 0.0
                ).sum()
                for n in mean
            )

        return kl - jax.lax.map(one, keys)

    wide = np.asarray(
        jax.jit(excess)({n: jnp.full_like(m, 0.3) for n, m in mean.items()}, jax.random.key(0)),
        float,
    )
    assert wide.mean() > -4 * wide.std() / np.sqrt(draws)
    sure = np.asarray(
        jax.jit(excess)({n: jnp.full_like(m, 1e-3) for n, m in mean.items()}, jax.random.key(1)),
        float,
    )
    # q's spread makes the bound loose by less than (sd / spike)^2 / 2 = 1.25e-5 a weight
    assert abs(sure.mean()) < 4 * sure.std() / np.sqrt(draws) + 1e-5 * sum(
        m.size for m in mean.values()
    )


@pytest.mark.slow
def test_support_finds_the_burst():
    X, y = network_and_data()
    model = bdl.BNN(hidden=(), prior=bdl.priors.Bursts(slab=3.0, spike=0.05, length=6.0))
    engine = SSVI(
        density=0.15,
        dense_output=False,
        removal="support",
        steps=2000,
        every=50,
        learning_rate=0.02,
    )
    post = bdl.fit(model, X, y, engine=engine, progress=False)
    (mask,) = bdl.sparse.masks(post).values()
    assert np.flatnonzero(mask).tolist() == list(range(10, 16))
    assert post.score(X, y)["rmse"] < 0.35
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)  # these steps are few
        facts = post.diagnose().facts
    last = -post.raw.losses[-50:]
    error = np.hypot(facts["elbo standard error"], last.std() / np.sqrt(50))
    assert (
        facts["elbo"] > last.mean() - 4 * error
    )  # with supports summed out, and with the best q for them


@pytest.mark.slow
def test_units_of_equal_counts_fit_with_bursts():
    model = bdl.BNN(hidden=(16,), prior=bdl.priors.Bursts())
    engine = SSVI(density=0.4, structure="fan_in", removal="support", steps=200, every=50)
    assert np.isfinite(
        bdl.sparse.report(bdl.fit(model, *network_and_data(), engine=engine, progress=False)).elbo
    )


@pytest.mark.slow
def test_nuts_takes_bursts_too():
    """The slope of one input under a slab and a spike, against quadrature."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(20, 1))
    y = 0.15 * X[:, 0] + rng.normal(size=20)
    prior = bdl.priors.Bursts(slab=1.0, spike=0.1, share=0.5, length=2.0)
    model = bdl.BNN(hidden=(), prior=prior, likelihood=bdl.Normal(scale=1.0), standardize=False)
    post = bdl.fit(model, X, y, engine=bdl.NUTS(500, 2000, 2), progress=False)
    draws = np.asarray(post.samples["layer0.weight"], float).reshape(-1)
    w, b = np.meshgrid(np.linspace(-2, 2, 801), np.linspace(-2, 2, 401), indexing="ij")
    log = stats.norm.logpdf(y[:, None, None], w * X[:, :1, None] + b).sum(0) + stats.norm.logpdf(b)
    log += np.log(0.5 * stats.t.pdf(w, 4, 0, 1.0) + 0.5 * stats.t.pdf(w, 4, 0, 0.1))
    p = np.exp(log - log.max())
    expected = (p * w).sum() / p.sum()
    assert abs(draws.mean() - expected) < 4 * float(
        post.summary().loc["layer0.weight[0, 0]", "mcse_mean"]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bdl.priors.Bursts(slab=0.1, spike=0.2), "narrower than the slab"),
        (lambda: bdl.priors.Bursts(share=1.5), "below 1"),
        (lambda: bdl.priors.Bursts(df=2.0), "above 2"),
        (lambda: bdl.priors.Bursts(share=0.9, length=2.0), "at least 1"),
        (lambda: bdl.priors.Bursts(spike=0.0), "positive"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_does_not_fit_is_refused():
    X, y = network_and_data()
    with pytest.raises(bdl.UnsupportedError, match=r"needs bdl\.priors\.Bursts"):
        bdl.fit(bdl.BNN(), X, y, engine=SSVI(removal="support"), progress=False)
    with pytest.raises(bdl.UnsupportedError, match="one budget for all"):
        bdl.fit(
            bdl.BNN(prior=bdl.priors.Bursts()),
            X,
            y,
            engine=SSVI(allocation="global"),
            progress=False,
        )
