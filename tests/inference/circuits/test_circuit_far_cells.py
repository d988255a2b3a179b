"""Cells that are far from what a circuit expects: logarithms from the leaves to the answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from inference.circuits import learning
from inference.circuits.engine import VBEM
from inference.circuits.layout import Layout
from inference.circuits.learning import Schedule, learn, make_prior, make_start
from inference.circuits.leaves import Normals, Weights, log_density
from inference.circuits.left_out import log_left_out
from inference.circuits.model import TractableCircuit
from inference.circuits.predictive import distribution_of
from inference.core.problem import Problem

# two nodes with two states: a number on each, and a category on the second
LAYOUT = Layout((-1, 0), 2, ((2, 1, 2),), (((0,), 0), ((1,), 1)))
MEANS, SDS = np.array([[0.0, 50.0], [0.0, 30.0]]), np.array([[1.0, 2.0], [1.0, 0.5]])
ROOTS, EDGES = np.log([0.7, 0.3]), np.log([[0.9, 0.1], [0.2, 0.8]])
LEVELS = np.log([[0.6, 0.4], [0.5, 0.5]])
left_out = jax.jit(log_left_out, static_argnums=0)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def circuit(levels=LEVELS):
    normals = Normals(jnp.asarray(MEANS[..., None]), jnp.asarray(SDS[..., None, None] ** 2))
    parts = (ROOTS[None], EDGES[None], (levels[None],))
    return Weights(*jax.tree.map(jnp.asarray, parts), (normals,))


def joint(row, levels=LEVELS):
    """Return log p(z_0, z_1, row) by hand, missing cells left out."""
    total = ROOTS[:, None] + EDGES
    for node, x in enumerate(row[:2]):
        if not np.isnan(x):
            leaf = norm.logpdf(x, MEANS[node], SDS[node])
            total = total + (leaf[:, None] if node == 0 else leaf[None])
    if not np.isnan(row[2]):
        total = total + levels[None, :, int(row[2])]
    return np.asarray(total)


def by_hand(row, column, levels=LEVELS):
    without = row.copy()
    without[column] = np.nan
    whole = np.logaddexp.reduce(joint(row, levels), axis=None)
    return whole - np.logaddexp.reduce(joint(without, levels), axis=None)


@pytest.mark.parametrize(
    "row",
    [
        [0.3, 39.0, 1.0],
        [-39.0, 0.2, 0.0],
        [80.0, -700.0, 1.0],
        [1e4, 0.0, 0.0],
        [50.0, np.nan, 0.0],
        [0.0, 1e6, np.nan],
    ],
)
def test_cells_far_away_have_exact_log_densities(row):
    row = np.array(row)
    found = left_out(LAYOUT, circuit(), row[None])[0]
    expected = [np.nan if np.isnan(row[c]) else by_hand(row, c) for c in range(3)]
    np.testing.assert_allclose(
        found, expected, rtol=1e-12, atol=1e-12 * np.nanmax(np.abs(row)) ** 2
    )


def test_thirty_nine_standard_deviations_of_one_normal():
    layout = Layout((-1,), 1, (), (((0,), 0),))
    normals = Normals(jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1, 1)))
    one = Weights(jnp.zeros((1, 1)), jnp.zeros((0, 1, 1)), (), (normals,))
    for x in (39.0, 1e3, 1e50):
        found = left_out(layout, one, np.array([[x]]))[0, 0]
        np.testing.assert_allclose(found, -0.5 * x**2 - 0.5 * np.log(2 * np.pi), rtol=1e-14)


def test_a_category_of_probability_zero():
    never = np.log(np.array([[0.6, 0.4], [1.0, 1e-320]]).clip(0))
    never[1, 1] = -np.inf
    # only the first state of the second node may have it, which the number contradicts
    row = np.array([50.0, 30.0, 1.0])
    found = left_out(LAYOUT, circuit(never), row[None])[0]
    np.testing.assert_allclose(found, [by_hand(row, c, never) for c in range(3)], rtol=1e-12)
    never[0, 1] = -np.inf
    found = left_out(LAYOUT, circuit(never), row[None])[0]
    assert found[2] == -np.inf


def test_densities_far_from_the_state_that_the_rest_tells():
    """The first number says one state; the second is of the other, whose weight is e^-1250."""
    layout = Layout((-1,), 2, ((2, 0, 2),), (((0,), 0), ((1,), 0)))
    normals = Normals(jnp.array([[[0.0], [50.0]], [[0.0], [90.0]]]), jnp.ones((2, 2, 1, 1)))
    levels = jnp.log(jnp.array([[[1.0 - 1e-9, 1e-9], [0.5, 0.5]]]))
    one = Weights(jnp.log(jnp.array([[0.5, 0.5]])), jnp.zeros((0, 2, 2)), (levels,), (normals,))
    row = jnp.array([[0.0, jnp.nan, jnp.nan]])
    given = distribution_of(layout, one, row, 1)
    value = jnp.array([90.0])
    expected = norm.logpdf(0.0, 50.0, 1.0) - norm.logpdf(0.0, 0.0, 1.0) + norm.logpdf(0.0)
    np.testing.assert_allclose(given.log_prob(value), [expected], rtol=1e-12)
    # with both numbers the second state explains the row, and both its categories
    both = row.at[0, 1].set(90.0)
    whole = log_density(layout, one, both.at[0, 2].set(1.0)) - log_density(layout, one, both)
    found = distribution_of(layout, one, both, 2).log_prob(jnp.array([1]))
    np.testing.assert_allclose(found, whole, rtol=1e-12)


def test_many_states_in_single_precision():
    """Weights of states that no row takes are below the smallest number of 32 bits."""
    table = np.random.default_rng(0).integers(0, 2, (60, 4)).astype(float)
    layout = Layout((-1, 0, 1, 2), 100, tuple((c, c, 2) for c in range(4)))
    prior = make_prior(layout, table, 0.1, 0.5)
    start = make_start(layout, prior, table, jax.random.key(0))
    with jax.enable_x64(False):
        found = learn(
            layout, prior, start, table, Schedule(None, 0, 5, 1e-9, True), jax.random.key(1)
        )
    assert len(found.bounds) == 5 and np.isfinite(found.bounds).all() and found.fell == 0


def test_a_falling_bound_is_no_convergence(monkeypatch):
    """Of passes whose bounds are -4, -3 and -3.5 those before the fall are kept."""
    layout = Layout((-1,), 2, ((0, 0, 2),))
    table = np.array([[0.0], [1.0], [1.0]])
    prior = make_prior(layout, table, 1.0, 0.5)
    start = make_start(layout, prior, table, jax.random.key(0))
    bounds = iter([-6.0, -4.0, -3.0, -3.5, -2.0])
    numbers = iter(range(1, 9))

    def fake_pass(layout, prior, found, rows, variational, joint):
        return jax.tree.map(lambda leaf, n=next(numbers): 0 * leaf + n, found), next(bounds)

    monkeypatch.setattr(learning, "whole_pass", fake_pass)
    found = learn(layout, prior, start, table, Schedule(None, 0, 9, 1e-9, True), jax.random.key(1))
    assert found.bounds.tolist() == [-6.0, -4.0, -3.0]
    assert not found.converged
    np.testing.assert_allclose(found.fell, 0.5 / 3)
    # the bound -3 is that of the numbers after two passes
    assert found.statistics.roots.tolist() == [[2.0, 2.0]]


def test_a_falling_bound_is_told():
    layout = Layout((-1,), 1, ((0, 0, 2),))
    table = np.array([[0.0], [1.0], [1.0]])
    prior = make_prior(layout, table, 1.0, 0.5)
    structure = TractableCircuit(layout, prior, table, ("x0",))
    problem = Problem(lambda table: None, (table,), structure=structure)
    result = VBEM().infer(problem, key=jax.random.key(0))
    assert result.info["converged"] and VBEM().findings(problem, result, {}) == ()
    result.info.update(converged=False, fell=0.5)
    (finding,) = VBEM().findings(problem, result, {})
    assert "fell by 0.5 nats a row" in str(finding)
    result.info.update(fell=0.0)
    (finding,) = VBEM().findings(problem, result, {})
    assert "still rose" in str(finding)
