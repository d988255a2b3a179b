"""Pictures of how a posterior was computed, and of predictions beside what happened."""

import dataclasses
import warnings

import numpy as np
import pytest
from arviz_stats.base.array import array_stats

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from drawn_posteriors import drawn  # noqa: E402

import bayesdl as bdl  # noqa: E402
from bayesdl import plots  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (40, 2))
Y = X[:, 0] - X[:, 1] ** 2 + 0.3 * RNG.normal(size=40)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def chains():
    engine = bdl.NUTS(num_warmup=50, num_samples=60, num_chains=2, chain_method="vectorized")
    return bdl.fit(bdl.BNN(hidden=()), X, Y, engine=engine, progress=False)


@pytest.fixture(scope="module")
def approximate():
    return bdl.fit(bdl.BNN(hidden=()), X, Y, engine=bdl.VI(steps=200), progress=False)


@pytest.fixture(scope="module")
def labels():
    return drawn(bdl.BNN(hidden=(), likelihood=bdl.Bernoulli()), X, Y > 0)


def test_energies_and_their_fraction(chains):
    panel = plots.energy(chains)
    energies = np.asarray(chains.raw.groups()["sample_stats"]["energy"])
    fractions = np.square(np.diff(energies, axis=1)).mean(1) / energies.var(1, ddof=1)
    (note,) = panel.texts
    said = [float(line) for line in note.get_text().split("\n")[1:]]
    np.testing.assert_allclose(said, fractions, atol=0.006)


def test_effective_draws_at_the_end_are_those_of_all_draws(chains):
    panel = plots.ess(chains, ["sigma"])
    bulk, tail, enough = panel.lines
    values = np.asarray(chains.samples["sigma"], np.float64).reshape(2, 60)
    assert bulk.get_xdata()[-1] == 120
    assert bulk.get_ydata()[-1] == pytest.approx(array_stats.ess(values, 0, 1, method="bulk"))
    assert tail.get_ydata()[-1] == pytest.approx(
        array_stats.ess(values, 0, 1, method="tail", prob=0.9)
    )
    assert enough.get_ydata()[0] == 400


def test_rows_above_the_threshold_have_their_numbers(chains):
    k = np.full(40, 0.1)
    k[[1, 2]] = 0.9, -np.inf
    # a few draws may warn, or may not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = chains.loo()
    loo = dataclasses.replace(found, pareto_k=k, threshold=0.7)
    panel = plots.pareto_k(loo)
    assert [text.get_text() for text in panel.texts] == ["1"]
    assert panel.lines[1].get_ydata().tolist() == [0.9]
    assert panel.lines[2].get_ydata()[0] == 0.7


def test_the_objective_and_its_means(approximate):
    panel = plots.training(approximate)
    losses = -np.asarray(approximate.raw.losses)
    np.testing.assert_allclose(panel.lines[0].get_ydata(), losses)
    np.testing.assert_allclose(panel.lines[1].get_ydata(), losses.reshape(50, 4).mean(1), rtol=1e-5)


def test_the_prior_beside_the_posterior(chains):
    (panel,) = plots.prior_posterior(chains, ["sigma"])
    after, before = panel.lines
    assert [line.get_label() for line in panel.lines] == ["posterior", "prior"]
    # the data say more of sigma than its prior
    assert after.get_ydata().max() > 2 * before.get_ydata().max()
    # the area of the prior's part is its share of the draws
    area = np.trapezoid(before.get_ydata(), before.get_xdata())
    assert 0.05 < area <= 1.01


def test_what_has_no_such_picture_is_refused(approximate, chains, labels):
    with pytest.raises(ValueError, match="no energies"):
        plots.energy(approximate)
    with pytest.raises(ValueError, match="independent"):
        plots.ess(approximate)
    with pytest.raises(ValueError, match="no objective"):
        plots.training(chains)
    with pytest.raises(ValueError, match="targets are classes"):
        plots.levels(labels.predict(X), Y > 0)


def test_levels_of_a_prediction(chains):
    prediction = chains.predict(X)
    panel = plots.levels(prediction, Y)
    line = panel.lines[0]
    at, found = line.get_xdata(), np.sort(prediction.cdf(Y))
    shares = np.searchsorted(found, at, side="right") / len(Y)
    np.testing.assert_allclose(line.get_ydata(), shares - at, atol=1e-9)


def test_rows_set_aside(chains, labels):
    prediction = chains.predict(X)
    ours, best, random = plots.rejection(prediction, Y).lines
    errors = np.square(prediction.mean - Y)
    order = np.argsort(prediction.std, kind="stable")
    np.testing.assert_allclose(ours.get_ydata()[19], np.sqrt(errors[order][:20].mean()))
    np.testing.assert_allclose(ours.get_xdata()[19], 0.5)
    assert ours.get_ydata()[-1] == pytest.approx(random.get_ydata()[0])
    assert (best.get_ydata() <= ours.get_ydata() + 1e-9).all()
    wrong = plots.rejection(labels.predict(X), Y > 0).lines[2].get_ydata()[0]
    assert wrong == pytest.approx(np.mean(labels.predict(X).label != (Y > 0)))
