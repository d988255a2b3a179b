"""Adding one in: exact against refitting, and what it holds where the model is wrong."""

import dataclasses

import jax
import numpy as np
import pytest
from calibration_toys import linear
from scipy.special import ndtri
from scipy.stats import poisson

import bayesdl as bdl
from bayesdl.calibration.conformal import add_one_in
from bayesdl.calibration.conformal.add_one_in import TrainingDensities
from bayesdl.calibration.ranks import rank_of
from bayesdl.data.validation import DataError, ModelError
from bayesdl.posterior.streaming import means
from bayesdl.warnings import TrustWarning

ROWS, LEVEL, PRIOR = 40, 0.8, 10.0


def normal(y, mean, sd):
    return -0.5 * ((y - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)


def decisions(train, new, draws=400):
    """Whether each new y is in its set: by adding one in, and by refitting exactly.

    The model is y ~ N(z, 1), z ~ N(0, 10^2); of each data set (sets, rows) one y is judged. Draws
    are quantiles of the posterior, so that Monte Carlo error decides nothing.
    """
    need = ROWS + 1 - rank_of(LEVEL, ROWS)
    n, total = train.shape[1], train.sum(1)
    precision = n + PRIOR**-2
    z = total[:, None] / precision + ndtri((np.arange(draws) + 0.5) / draws) / np.sqrt(precision)
    judge = jax.jit(add_one_in._judge)
    added = []
    with jax.enable_x64(True):
        for y, new_y, one in zip(train, new, z, strict=True):
            made = TrainingDensities.of(normal(y[None], one[:, None], 1.0), np.arange(draws), 1.0)
            given = {
                "scaled": made.scaled,
                "log_largest": made.log_largest,
                "power": np.float64(1),
                "need": np.int32(need),
            }
            found = judge(normal(new_y, one, 1.0)[:, None, None], given)
            added.append(bool(found.accepted[0, 0]))
    # the predictive of the refit is N(mean, 1 + 1 / precision): its density orders |y - mean|
    mean = (total + new) / (precision + 1)
    count = np.sum(np.abs(train - mean[:, None]) >= np.abs(new - mean)[:, None], axis=1)
    return np.array(added), count >= need


def test_decisions_are_those_of_refitting_and_hold_what_they_say():
    """The true sd is three times the model's; 2,000 data sets, all decisions the same."""
    rng = np.random.default_rng(0)
    y = 3 * rng.normal(size=(2000, ROWS + 1))
    added, refitted = decisions(y[:, :-1], y[:, -1])
    expected = rank_of(LEVEL, ROWS) / (ROWS + 1)
    error = np.sqrt(expected * (1 - expected) / 2000)
    assert abs(added.mean() - expected) < 3 * error
    np.testing.assert_array_equal(added, refitted)
    # the model's own intervals hold far less
    total = y[:, :-1].sum(1)
    inside = np.abs(y[:, -1] - total / ROWS) < 1.2816 * np.sqrt(1 + 1 / ROWS)
    assert inside.mean() < 0.45


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 2))
    y = X @ [1.0, -0.5] + rng.standard_t(3, size=120)
    engine = bdl.NUTS(num_warmup=100, num_samples=50, num_chains=2)
    post = bdl.fit(bdl.BNN(hidden=()), X[:60], y[:60], engine=engine, progress=False)
    return post, X, y


def test_ends_lie_where_the_judgement_changes(fitted):
    """The program's densities, by NumPy: just inside each end y is accepted, just outside not."""
    post, X, y = fitted
    sets = post.conformal(0.8).predict(X[60:70])
    low, high = sets.interval()
    samples = {name: value.reshape(-1, *value.shape[2:]) for name, value in post.samples.items()}
    target, need = post.schema.target, 60 + 1 - rank_of(0.8, 60)

    def log_densities(rows, values):
        mean = post.predict(rows).stream.map(means, axis=1)
        return normal((values - target.shift[0]) / target.scale[0], mean, samples["sigma"][:, None])

    train = log_densities(X[:60], y[:60])

    def accepted(values):
        new = log_densities(X[60:70], values)
        weights = np.exp(new) / np.exp(new).sum(0)
        own, others = (weights * np.exp(new)).sum(0), weights.T @ np.exp(train)
        return (others <= own[:, None]).sum(1) >= need

    inside = 0.02 * (high - low)
    for end, step in ((low, inside), (high, -inside)):
        assert accepted(end + step).all() and not accepted(end - step).any()
    assert (sets.ess() >= 1).all() and (sets.ess() <= 100 * (1 + 1e-4)).all()


def test_bundles_keep_the_sets(fitted, tmp_path):
    post, X, _ = fitted
    made = post.conformal(0.8)
    loaded = bdl.load(made.save(tmp_path / "made.bdl"))
    assert repr(loaded) == repr(made)
    new = X[60:63]
    np.testing.assert_array_equal(loaded.predict(new).interval(), made.predict(new).interval())


def test_few_draws_are_told(fitted):
    post, X, _ = fitted
    few = {name: value[:, :10] for name, value in post.raw.samples.items()}
    short = dataclasses.replace(post, raw=dataclasses.replace(post.raw, samples=few))
    with pytest.warns(TrustWarning, match="effective draws"):
        short.conformal(0.8).predict(X[60:70]).interval()


def test_classes_and_counts_have_sets_of_labels_and_of_whole_numbers():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(200, 2))
    labels = np.where(X[:, 0] + rng.logistic(size=200) > 0, "up", "down")
    spec = bdl.BNN(hidden=(), likelihood=bdl.Bernoulli())
    post = linear(spec, X[:100], labels[:100], spread=0.3, draws=200)
    sets = post.conformal(0.9).predict(X[100:])
    assert np.mean(sets.contains(labels[100:])) > 0.9 - 3 * 0.03
    assert {len(one) for one in sets.sets()} <= {1, 2}
    counts = rng.poisson(np.exp(1 + 0.5 * X[:, 0]))
    spec = bdl.BNN(hidden=(), likelihood=bdl.Poisson())
    post = linear(spec, X[:100], counts[:100], draws=200)
    sets = post.conformal(0.9).predict(X[100:120])
    # all whole numbers, one by one
    mean = post.predict(X).stream.map(means, axis=1)
    train = poisson.pmf(counts[:100], mean[:, :100])
    new = poisson.pmf(np.arange(60)[None, :, None], mean[:, None, 100:120])
    weights = new / new.sum(0)
    own, others = (weights * new).sum(0), np.einsum("sgr,si->gri", weights, train)
    accepted = (others <= own[..., None] * (1 + 1e-6)).sum(2) >= 100 + 1 - rank_of(0.9, 100)
    for row, pieces in enumerate(sets.pieces()):
        inside = np.concatenate([np.arange(low, high + 1) for low, high in pieces])
        np.testing.assert_array_equal(inside, np.flatnonzero(accepted[:, row]))


def test_what_cannot_be_reweighted_is_refused(fitted):
    post, X, y = fitted
    exact = bdl.fit(bdl.GP(), X[:60], y[:60], engine=bdl.ExactGP(), progress=False)
    with pytest.raises(ModelError, match=r"held-out rows"):
        exact.conformal(0.9)
    with pytest.raises(DataError, match=r"60 rows.*at least 99"):
        post.conformal(0.99)
    with pytest.raises(ValueError, match="between 0 and 1"):
        post.conformal(90.0)


def test_groups_are_ranked_by_themselves(fitted):
    post, X, _ = fitted
    group = np.where(np.arange(60) % 2 == 0, "a", "b")
    made = post.conformal(0.8, groups=group)
    with pytest.raises(DataError, match="groups="):
        made.predict(X[60:70]).interval()
    sets = made.predict(X[60:70], groups=np.repeat(["a", "b"], 5)).interval()
    whole = made.adjustment
    for name, new in (("a", slice(0, 5)), ("b", slice(5, 10))):
        own = np.flatnonzero(group == name)
        densities = whole.densities.of_rows(own, len(own))
        alone = dataclasses.replace(whole, densities=densities, chosen=own, groups=None)
        expected = dataclasses.replace(post, adjustment=alone).predict(X[60:70][new]).interval()
        np.testing.assert_allclose(sets[:, new], expected, rtol=1e-6)
    assert not np.allclose(sets[:, :5], post.conformal(0.8).predict(X[60:65]).interval())
