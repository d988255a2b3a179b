"""What is compiled for a program, and when it is compiled again."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdl as bdl
from bayesdl.data.validation import ModelError
from bayesdl.model.program import as_model
from inference.sharing import split_problem

RNG = np.random.default_rng(0)
X = np.linspace(1.0, 2.0, 20)
CHAINS = bdl.NUTS(num_warmup=100, num_samples=100, num_chains=1)

ENGINES = {"Laplace": bdl.Laplace(), "NUTS": CHAINS, "VI": bdl.VI(steps=200)}

noise = 1.0
runs = []


def through_origin(x, y=None):
    """A program that reads a global variable."""
    w = numpyro.sample("w", dist.Normal(0, 10))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(w * x, noise), obs=y)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.filterwarnings("ignore::bayesdl.warnings.TrustWarning")
def test_a_changed_global_variable_makes_another_program(engine, monkeypatch):
    spread = []
    for value in (1.0, 10.0):
        monkeypatch.setattr(f"{__name__}.noise", value)
        post = bdl.fit(through_origin, X, y=2 * X, engine=engine, progress=False)
        pred = post.predict(X)
        # Var(y) = Var(w) x^2 + noise^2 given the same draws of w
        w = post.samples["w"]
        expected = np.sqrt(np.var(w) * X**2 + value**2)
        np.testing.assert_allclose(pred.std, expected, rtol=1e-4)
        spread.append(float(np.std(w)))
    assert spread[1] > 3 * spread[0]


def test_simulated_data_follow_a_changed_global_variable(monkeypatch):
    spread = []
    for value in (0.1, 100.0):
        monkeypatch.setattr(f"{__name__}.noise", value)
        spread.append(float(np.std(bdl.prior_predictive(through_origin, X, seed=1).y)))
    assert spread[1] > 5 * spread[0]


def counted(x, y=None):
    """A program that counts its runs."""
    runs.append(type(x))
    w = numpyro.sample("w", dist.Normal(0, 10))
    b = numpyro.sample("b", dist.Normal(0, 10))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b + w * x, 1.0), obs=y)


@pytest.mark.parametrize("engine", [bdl.Laplace(), pytest.param(CHAINS, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::bayesdl.warnings.TrustWarning")
def test_the_folds_of_a_cross_validation_share_what_is_compiled(engine):
    counts = []
    for fold in range(4):
        rows = np.arange(40) % 4 != fold
        x = RNG.normal(size=40)
        y = 3 * x + RNG.normal(size=40)
        runs.clear()
        model = bdl.Program(counted, compile_once=True)
        post = bdl.fit(model, x[rows], y=y[rows], engine=engine, progress=False)
        post.score(x[~rows], y=y[~rows])
        counts.append(len(runs))
    # later folds run the program abstractly, to see what it is, and never to compile it
    assert counts[1] < counts[0]
    assert counts[1:] == [counts[1]] * 3


def with_length(x, y=None):
    """A program that needs values of its argument in Python."""
    w = numpyro.sample("w", dist.Normal(0, 10).expand([len(np.unique(x))]))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(w[0] * x, 1.0), obs=y)


def test_arrays_are_traced_where_the_user_says_so():
    for program in (through_origin, bdl.Program(through_origin)):
        _, problem = as_model(program).learn(X, y=2 * X)
        assert not problem.program.takes_traced and problem.program.content
    _, problem = bdl.Program(through_origin, compile_once=True).learn(X, y=2 * X)
    assert problem.program.takes_traced
    with pytest.raises(ModelError, match="with_length needs the values of its arguments"):
        bdl.fit(bdl.Program(with_length, compile_once=True), X, y=2 * X, engine="laplace")


temperature, names = 1.0, ("a", "b")


def tempered(x, y=None):
    """A program whose scale and whose sites' names are global variables."""
    one = numpyro.sample(names[0], dist.Normal(0, 10))
    other = numpyro.sample(names[1], dist.Normal(0, 10))
    with numpyro.handlers.scale(scale=temperature), numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(one + 5 * other * x, 1.0), obs=y)


def exact(x, y, scale):
    """Means and standard deviations of the two coefficients."""
    A = np.column_stack([np.ones_like(x), 5 * x])
    precision = scale * A.T @ A + np.eye(2) / 100
    covariance = np.linalg.inv(precision)
    return scale * covariance @ A.T @ y, np.sqrt(np.diag(covariance))


@pytest.mark.parametrize("once", [False, True])
def test_scales_and_names_belong_to_the_program(monkeypatch, once):
    y = 1 + 2 * X
    for scale, order in ((1.0, "ab"), (0.01, "ab"), (0.01, "ba"), (0.01, "cd")):
        monkeypatch.setattr(f"{__name__}.temperature", scale)
        monkeypatch.setattr(f"{__name__}.names", tuple(order))
        model = bdl.Program(tempered, compile_once=once)
        post = bdl.fit(model, X, y=y, engine=bdl.Laplace(), progress=False)
        means, spreads = exact(X, y, scale)
        for name, mean, spread in zip(order, means, spreads, strict=True):
            drawn = np.ravel(post.samples[name])
            assert abs(drawn.mean() - mean) < 5 * spread / np.sqrt(len(drawn))
            assert abs(drawn.std() - spread) < 5 * spread / np.sqrt(2 * len(drawn))


def test_two_fits_with_other_data_differ_as_they_should():
    for slope in (2.0, -5.0):
        model = bdl.Program(counted, compile_once=True)
        post = bdl.fit(model, X, y=slope * X, engine=bdl.Laplace(), progress=False)
        A = np.column_stack([np.ones_like(X), X])
        expected = np.linalg.solve(A.T @ A + np.eye(2) / 100, A.T @ (slope * X))
        found = np.array([post.samples[name].mean() for name in ("b", "w")])
        sd = np.array([post.samples[name].std() for name in ("b", "w")])
        assert (np.abs(found - expected) < 5 * sd / np.sqrt(1000)).all()


def test_forms_compare_by_content_and_hold_no_data():
    table = np.column_stack([X, X**2])
    for model in (bdl.BNN(), bdl.GP(), bdl.Table()):
        problems = [model.learn(rows, X)[1] for rows in (table, 2 * table)]
        one, other = (split_problem(problem)[0] for problem in problems)
        assert one == other and hash(one) == hash(other)
        held = [leaf for leaf in jax.tree.leaves(one.static) if isinstance(leaf, np.ndarray)]
        assert not held
    # its members hold their data
    assert one.structure is None
