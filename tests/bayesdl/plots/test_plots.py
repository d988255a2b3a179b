"""Pictures: axes come back, and what is drawn equals the numbers it stands for."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from drawn_posteriors import drawn  # noqa: E402
from scipy.stats import binom  # noqa: E402

import bayesdl as bdl  # noqa: E402
from bayesdl import plots  # noqa: E402
from bayesdl.checks.scores import calibration_curve  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (40, 2))
Y = X[:, 0] - X[:, 1] ** 2 + 0.3 * RNG.normal(size=40)
SPECIES = np.array(["ant", "bee", "cat"])[np.digitize(Y, [-0.6, 0.1])]


def fit(model, y, engine=bdl.Laplace(), X=X):
    return bdl.fit(model, X, y, engine=engine, progress=False)


@pytest.fixture(scope="module")
def linear():
    return fit(bdl.BNN(hidden=()), pd.Series(Y, name="height"))


@pytest.fixture(scope="module")
def chains():
    return fit(
        bdl.BNN(hidden=()),
        Y,
        bdl.NUTS(num_warmup=50, num_samples=60, num_chains=2, chain_method="vectorized"),
    )


@pytest.fixture(scope="module")
def three():
    model = bdl.BNN(hidden=(), likelihood=bdl.Categorical())
    return drawn(model, X, pd.Series(SPECIES, name="animal"))


@pytest.fixture(scope="module")
def two():
    return drawn(bdl.BNN(hidden=(), likelihood=bdl.Bernoulli()), X, Y > 0)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def band(collection):
    """Lower and upper edge of a filled band, as the sets of its heights."""
    return np.unique(collection.get_paths()[0].vertices[:, 1])


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_prediction_draws_mean_and_intervals_against_x(linear):
    prediction = linear.predict()
    ax = plots.prediction(prediction, X[:, 0])
    order = np.argsort(X[:, 0])
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), X[order, 0])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), prediction.mean[order])
    for collection, level in zip(ax.collections, (0.9, 0.5), strict=True):
        np.testing.assert_array_equal(band(collection), np.unique(prediction.interval(level)))
    assert ax.get_ylabel() == "height"
    assert ax.get_xlabel() == "x"
    assert legend(ax) == ["90 % interval", "50 % interval", "mean"]


def test_prediction_without_x_sorts_rows_by_mean_and_shows_targets(linear):
    _, ax = plt.subplots()
    prediction = linear.predict()
    assert plots.prediction(prediction, ax=ax, y=Y) is ax
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), np.sort(prediction.mean))
    np.testing.assert_array_equal(
        ax.lines[1].get_ydata(), Y[np.argsort(prediction.mean, kind="stable")]
    )
    assert "sorted" in ax.get_xlabel()


def test_prediction_takes_its_label_from_pandas(linear):
    assert (
        plots.prediction(linear.predict(), pd.Series(X[:, 0], name="time")).get_xlabel() == "time"
    )
    assert plots.prediction(linear.predict(), pd.DataFrame({"age": X[:, 0]})).get_xlabel() == "age"


@pytest.mark.slow
def test_prediction_of_two_targets_has_two_axes():
    post = fit(bdl.BNN(hidden=()), pd.DataFrame({"a": Y, "b": -2 * Y}))
    axes = plots.prediction(post.predict(), X[:, 0])
    assert [ax.get_ylabel() for ax in axes] == ["a", "b"]
    np.testing.assert_array_equal(
        axes[1].lines[0].get_ydata(), post.predict().mean[np.argsort(X[:, 0]), 1]
    )
    with pytest.raises(ValueError, match="expected 2"):
        plots.prediction(post.predict(), ax=plt.gca())


@pytest.mark.slow
def test_prediction_of_a_program():
    import numpyro
    import numpyro.distributions as dist

    def program(y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        numpyro.sample("y", dist.Normal(mu, 1).expand([3]), obs=y)

    post = bdl.fit(program, y=np.array([1.0, 2.0, 3.0]), engine=bdl.Laplace(), progress=False)
    ax = plots.prediction(post.predict())
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.sort(post.predict().mean))


def test_prediction_refuses_x_of_another_length(linear):
    with pytest.raises(ValueError, match=r"expected \(40,\)"):
        plots.prediction(linear.predict(), X)


def test_plot_methods_are_these_functions(linear, three):
    assert linear.predict().plot().get_ylabel() == "height"
    assert three.predict().plot().get_ylabel() == "P(animal = class)"


def test_class_prediction_stacks_probabilities(three):
    _, ax = plt.subplots()
    prediction = three.predict()
    assert plots.class_prediction(prediction, X[:, 0], ax) is ax
    edges = np.concatenate([np.zeros((40, 1)), prediction.probs.cumsum(1)], axis=1)
    for k, collection in enumerate(ax.collections):
        np.testing.assert_allclose(band(collection), np.unique(edges[:, k : k + 2]), atol=1e-12)
    assert legend(ax) == ["ant", "bee", "cat"]


def test_class_prediction_without_x_sorts_by_class(two):
    prediction = two.predict()
    ax = plots.class_prediction(prediction)
    lower = (
        ax.collections[1].get_paths()[0].vertices
    )  # the boundary between the classes: P(first class)
    assert set(np.round(prediction.probs[:, 0], 9)) <= set(np.round(lower[:, 1], 9))
    assert legend(ax) == ["False", "True"]


def test_calibration_of_numbers_is_the_calibration_curve(linear):
    _, ax = plt.subplots()
    assert plots.calibration(linear.predict(), Y, ax) is ax
    levels, shares = calibration_curve(linear.predict(), Y)
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), levels)
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), shares)
    expected = np.concatenate([binom.ppf(q, 40, levels) / 40 for q in (0.025, 0.975)])
    np.testing.assert_array_equal(band(ax.collections[0]), np.unique(expected))
    assert "height" in ax.get_ylabel()
    assert plots.calibration(linear.predict(), Y) is not ax


@pytest.mark.parametrize("classes", [2, 3])
def test_calibration_of_classes_is_a_reliability_diagram(two, three, classes):
    prediction, y = (two.predict(), Y > 0) if classes == 2 else (three.predict(), SPECIES)
    ax = plots.calibration(prediction, y)
    chance = prediction.probs[:, 1] if classes == 2 else prediction.probs.max(1)
    came_true = y if classes == 2 else prediction.label == y
    predicted, observed = ax.lines[1].get_data()
    # ten bins of four rows each, as no two probabilities are the same
    assert "bins of 4 rows" in ax.get_xlabel()
    order = np.argsort(chance)
    np.testing.assert_allclose(predicted, chance[order].reshape(10, 4).mean(1), rtol=1e-6)
    np.testing.assert_allclose(observed, came_true[order].reshape(10, 4).mean(1))
    assert ("True" if classes == 2 else "animal") in ax.get_ylabel()


@pytest.mark.slow
def test_trace_draws_a_line_per_chain(chains):
    """A linear model's coefficients are identified, so they are drawn."""
    axes = plots.trace(chains)
    assert [ax.get_ylabel() for ax in axes] == [
        "layer0.bias[0]",
        "sigma",
        "layer0.weight[0,0]",
        "layer0.weight[0,1]",
    ]
    for chain in (0, 1):
        np.testing.assert_array_equal(
            axes[1].lines[chain].get_ydata(), chains.samples["sigma"][chain]
        )


@pytest.mark.slow
def test_of_a_network_function_values_are_drawn():
    post = fit(bdl.BNN(hidden=(2,)), Y)
    axes = plots.posterior(post)
    assert [ax.get_xlabel() for ax in axes] == [
        "sigma",
        "E[y | x][0]",
        "E[y | x][1]",
        "E[y | x][2]",
    ]
    mean_line = axes[3].lines[1].get_xdata()[0]
    assert mean_line == pytest.approx(post.function_values(3)[0, :, 2].mean())


@pytest.mark.slow
def test_trace_on_given_axes_and_sites(chains):
    _, axes = plt.subplots(1, 2)
    assert list(plots.trace(chains, ["layer0.weight"], axes)) == list(axes)
    assert axes[1].get_ylabel() == "layer0.weight[0,1]"
    np.testing.assert_array_equal(
        axes[1].lines[0].get_ydata(), chains.samples["layer0.weight"][0, :, 0, 1]
    )
    with pytest.raises(ValueError, match="one each"):
        plots.trace(chains, ["layer0.weight"], axes[0])
    with pytest.raises(ValueError, match="No site 'tau'"):
        plots.trace(chains, ["tau"])


def test_trace_refuses_an_approximation(linear):
    with pytest.raises(ValueError, match="no chains"):
        plots.trace(linear)


def test_posterior_draws_densities(chains):
    _, ax = plt.subplots()
    assert plots.posterior(chains, ["sigma"], ax)[0] is ax
    grid, density = ax.lines[0].get_data()
    sigma = chains.samples["sigma"].ravel()
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.03)
    assert ax.lines[1].get_xdata()[0] == pytest.approx(sigma.mean())
    low, high = np.quantile(sigma, [0.05, 0.95])
    edge = ax.collections[0].get_paths()[0].vertices[:, 0]
    assert edge.min() == pytest.approx(low, abs=grid[1] - grid[0])
    assert edge.max() == pytest.approx(high, abs=grid[1] - grid[0])


def test_posterior_draws_whole_numbers_and_constants(chains):
    import dataclasses

    raw = dataclasses.replace(
        chains.raw, samples={"k": np.array([[0, 1, 1, 3]]), "one": np.ones((1, 4))}
    )
    whole, constant = plots.posterior(dataclasses.replace(chains, raw=raw), ["k", "one"])
    assert [patch.get_height() for patch in whole.patches] == [0.25, 0.5, 0, 0.25]
    assert [line.get_xdata()[0] for line in constant.lines] == [1.0]


@pytest.mark.slow
def test_many_scalars_are_cut_and_the_picture_says_so():
    post = fit(bdl.BNN(hidden=(7,)), Y)
    axes = plots.posterior(post, ["layer0.weight"])
    assert len(axes) == plots.MAX_PANELS
    assert "12 of 14" in axes[0].figure.get_suptitle()


@pytest.mark.filterwarnings("ignore:Please use numpyro:DeprecationWarning")  # tinygp's
@pytest.mark.slow
def test_a_closed_form_has_nothing_to_draw():
    post = fit(bdl.GP(), Y, bdl.ExactGP())
    with pytest.raises(ValueError, match="closed form"):
        plots.posterior(post)


def test_pairs_mark_what_diverged(chains):
    diverged = np.zeros((2, 60), bool)
    diverged[1, 7] = True
    stats = {**chains.raw.stats, "diverging": diverged}
    post = dataclasses.replace(chains, raw=dataclasses.replace(chains.raw, stats=stats))
    weights = post.samples["layer0.weight"].reshape(120, -1)
    panels = plots.pair(post, ["layer0.weight"])
    assert panels.shape == (1, 1)
    _, marked = panels[0, 0].lines
    np.testing.assert_array_equal(np.ravel(marked.get_xydata()), weights[67])
    with pytest.raises(ValueError, match="expected two or more"):
        plots.pair(post, ["sigma"])


def test_ranks_of_all_chains_are_level_together(chains, linear):
    (panel,) = plots.ranks(chains, ["sigma"])
    heights = np.stack([patch.get_data().values for patch in panel.patches])
    np.testing.assert_allclose(heights.mean(0), 1, rtol=1e-12)
    first = np.sort(chains.samples["sigma"].ravel())[:30]
    inside = np.isin(chains.samples["sigma"], first).mean(1) / 0.25
    np.testing.assert_allclose(heights[:, 0], inside, rtol=1e-12)
    with pytest.raises(ValueError, match="no chains"):
        plots.ranks(linear)


def test_bars_of_a_rootogram_are_the_data():
    counts = RNG.poisson(2, 40)
    check = drawn(bdl.BNN(hidden=(), likelihood=bdl.Poisson()), X, counts).check_predictive()
    panel = plots.rootogram(check)
    heights = np.array([bar.get_height() for bar in panel.patches])
    seen = np.bincount(counts, minlength=len(heights))
    np.testing.assert_allclose(heights**2, seen, atol=1e-9)
    ends = [bar.get_y() + bar.get_height() for bar in panel.patches]
    np.testing.assert_allclose(panel.lines[0].get_ydata(), ends, rtol=1e-9)
