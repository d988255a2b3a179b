"""Circuits against enumeration of all hidden states, derivatives, and conjugate limits."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from jax.scipy.stats import t as student

from inference.circuits.layout import Layout
from inference.circuits.learning import Schedule, learn, make_prior, make_start
from inference.circuits.leaves import Normals, Weights, log_density
from inference.circuits.left_out import log_left_out
from inference.circuits.model import CircuitRow, merge_circuits
from inference.circuits.passes import tree_log_densities
from inference.circuits.queries import column_distribution, draw_missing, expected_cells
from inference.circuits.statistics import (
    draw_weights,
    predictive_weights,
    wisharts,
)

TREE = (-1, 0, 1, 0)
# two trees over two categories, one number alone, a block of four: patterns of gaps are not listed
COLUMNS = (((2,), 2), ((3, 4, 5, 6), 3))
MIXED = Layout(
    (*TREE, *(p + 4 if p >= 0 else -1 for p in TREE)),
    2,
    tuple((c, 4 * t + c, (2, 3)[c]) for t in (0, 1) for c in range(2)),
    tuple((columns, 4 * t + node) for t in (0, 1) for columns, node in COLUMNS),
)
# what is compiled once for all tests
density = jax.jit(log_density, static_argnums=0)
left_out = jax.jit(log_left_out, static_argnums=0)
distribution = jax.jit(column_distribution, static_argnums=(0, 3))
expected = jax.jit(expected_cells, static_argnums=0)
drawn_cells = jax.jit(draw_missing, static_argnums=0)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def mixed_table(rows=60):
    random = np.random.default_rng(0)
    codes = [random.integers(0, n, (rows, 1)) for n in (2, 3)]
    table = np.concatenate([*codes, random.normal(size=(rows, 5))], axis=1)
    table[random.random(table.shape) < 0.2] = np.nan
    return table


def learned(layout, table, variational=True, passes=30):
    prior = jax.tree.map(jnp.asarray, make_prior(layout, table, 1.0, 0.5))
    start = make_start(layout, prior, table, jax.random.key(0))
    schedule = Schedule(None, 0, passes, 1e-9, variational)
    return prior, learn(layout, prior, start, table, schedule, jax.random.key(1))


@functools.cache
def learned_mixed():
    """Return the prior and what was learned of `mixed_table`, of which several tests ask."""
    return learned(MIXED, mixed_table())


def prior_and_statistics():
    prior, found = learned_mixed()
    return prior, found.statistics


@functools.cache
def circuits():
    """Return a circuit drawn from the posterior, with normal blocks, and the predictive one."""
    given = prior_and_statistics()
    drawn = jax.jit(draw_weights)(*given, jax.random.key(3))
    return drawn, jax.jit(predictive_weights)(*given)


def binary_circuit(columns=6, states=2, trees=2):
    random = np.random.default_rng(1)
    parents = [-1, *(int(random.integers(0, i)) for i in range(1, columns))]
    forest = [p if p < 0 else p + t * columns for t in range(trees) for p in parents]
    leaves = [(c, t * columns + c, 2) for t in range(trees) for c in range(columns)]
    layout = Layout(tuple(forest), states, tuple(leaves))

    def draw(*shape):
        return np.log(random.dirichlet(np.ones(shape[-1]), shape[:-1]))

    roots = draw(trees * states).reshape(trees, states)
    edges = draw(len(layout.edges), states, states)
    return layout, Weights(roots, edges, (draw(trees * columns, states, 2),), ())


def by_enumeration(layout, weights, x):
    """Sum p(x, z) over the states of each tree."""
    total, width = 0.0, layout.nodes // len(layout.roots)
    numbers = {int(node): at for at, node in enumerate(layout.edges)}
    for tree, root in enumerate(layout.roots):
        for z in itertools.product(range(layout.states), repeat=width):
            p = np.exp(weights.roots[tree, z[root - tree * width]])
            for at in range(width):
                node = at + tree * width
                if layout.parents[node] >= 0:
                    above = z[layout.parents[node] - tree * width]
                    p *= np.exp(weights.edges[numbers[node], above, z[at]])
                p *= np.exp(weights.levels[0][node, z[at], int(x[at])])
            total += p
    return total


def test_densities_by_enumeration():
    layout, weights = binary_circuit()
    rows = np.array(list(itertools.product((0.0, 1.0), repeat=6)))
    found = np.exp(density(layout, weights, rows))
    np.testing.assert_allclose(found.sum(), 1.0, atol=1e-12)
    expected = [by_enumeration(layout, weights, row) for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_marginals_and_conditionals_by_enumeration():
    layout, weights = binary_circuit()
    rows = np.array(list(itertools.product((0.0, 1.0), repeat=6)))
    p = np.exp(density(layout, weights, rows))
    row = np.array([[1.0, np.nan, 0.0, np.nan, np.nan, 1.0]])
    fits = ((rows == row) | np.isnan(row)).all(1)
    marginal = np.exp(density(layout, weights, row))
    np.testing.assert_allclose(marginal, p[fits].sum(), atol=1e-12)
    for column in (1, 3, 4):
        found = np.exp(distribution(layout, weights, row, column).logits[0, 1])
        expected = p[fits & (rows[:, column] == 1)].sum() / p[fits].sum()
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_expected_counts_are_one_gradient():
    """The rule of the downward pass agrees with JAX's own derivative of the plain recursion."""
    layout = MIXED
    random = np.random.default_rng(2)
    K = layout.states
    roots = jnp.asarray(random.normal(size=(2, K)))
    edges = jnp.asarray(random.normal(size=(len(layout.edges), K, K)))
    e = jnp.asarray(random.normal(size=(layout.nodes, 4, K)))

    def plain(roots, edges, e):
        def s(node):
            found = e[node]
            for at, child in enumerate(layout.edges):
                if layout.parents[child] == node:
                    found += jax.nn.logsumexp(edges[at][None] + s(child)[:, None], axis=-1)
            return found

        tops = [
            jax.nn.logsumexp(roots[t][None] + s(r), axis=-1) for t, r in enumerate(layout.roots)
        ]
        return jnp.stack(tops)

    weights = jnp.asarray(random.normal(size=(2, 4)))
    ours = jax.jit(jax.grad(lambda *a: (weights * tree_log_densities(layout, *a)).sum(), (0, 1, 2)))
    theirs = jax.jit(jax.grad(lambda *a: (weights * plain(*a)).sum(), (0, 1, 2)))
    for one, other in zip(ours(roots, edges, e), theirs(roots, edges, e), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_conditionals_of_mixed_columns_are_ratios_of_densities():
    table = mixed_table()
    for circuit, columns in zip(circuits(), ((4,), (2, 4)), strict=True):
        for column in columns:
            without, at = table.copy(), table.copy()
            without[:, column], at[:, column] = np.nan, 0.3
            ratio = density(MIXED, circuit, at) - density(MIXED, circuit, without)
            mix = distribution(MIXED, circuit, table, column)
            pdf = (
                norm.pdf(0.3, mix.mean, mix.scale)
                if mix.freedom is None
                else student.pdf(0.3, mix.freedom, mix.mean, mix.scale)
            )
            np.testing.assert_allclose((np.exp(mix.logits) * pdf).sum(1), np.exp(ratio), atol=1e-12)


def test_left_out_cells_are_ratios_of_densities():
    table = mixed_table()
    for circuit in circuits():
        found = left_out(MIXED, circuit, table)
        whole = density(MIXED, circuit, table)
        for column in range(table.shape[1]):
            without = table.copy()
            without[:, column] = np.nan
            expected = whole - density(MIXED, circuit, without)
            expected = np.where(np.isnan(table[:, column]), np.nan, expected)
            np.testing.assert_allclose(found[:, column], expected, atol=1e-10)


@pytest.mark.parametrize("variational", [True, False])
def test_the_objective_rises(variational):
    plain = Layout((-1, 0), 2, ((0, 0, 2),), (((3, 4), 1),))
    _, found = learned_mixed() if variational else learned(plain, mixed_table(), False)
    # of a mixture the last stage shares the rows out
    assert np.diff(found.bounds).min() > -1e-8


def test_drawn_cells_have_their_conditional_distribution():
    weights, draws = circuits()[0], 20_000
    row = np.full((1, 7), np.nan)
    row[0, [0, 2, 4]] = 1.0, 0.4, -0.3
    rows = np.repeat(row, draws, 0)
    drawn = drawn_cells(MIXED, weights, rows, jax.random.key(4))
    for column in (1, 3, 5):
        mix = jax.tree.map(lambda leaf: leaf[:1], distribution(MIXED, weights, rows[:60], column))
        values = np.asarray(drawn[:, column])
        if mix.mean is None:
            p = np.exp(mix.logits[0])
            counts = np.bincount(values.astype(int), minlength=len(p))
            chi2 = ((counts - draws * p) ** 2 / (draws * p)).sum()
            assert chi2 < len(p) - 1 + 5 * np.sqrt(2 * (len(p) - 1))
            continue
        weight = np.exp(mix.logits)
        mean = float((weight * mix.mean).sum())
        second = float((weight * (mix.mean**2 + mix.scale**2)).sum())
        z = (values.mean() - mean) / np.sqrt((second - mean**2) / draws)
        assert abs(z) < 4


def test_expected_cells_are_moments_of_their_distribution():
    table = mixed_table()
    for circuit in circuits():
        found = expected(MIXED, circuit, table)
        np.testing.assert_array_equal(found[~np.isnan(table)], table[~np.isnan(table)])
        for column in (1, 2, 4):
            mix = distribution(MIXED, circuit, table, column)
            best = mix.logits.argmax(-1)
            if mix.mean is not None:
                best = (np.exp(mix.logits) * mix.mean).sum(-1)
            gaps = np.isnan(table[:, column])
            np.testing.assert_allclose(found[gaps, column], best[gaps], atol=1e-12)


def test_circuits_in_equal_shares_are_one_with_more_trees():
    table = mixed_table()
    one = circuits()[0]
    other = jax.jit(draw_weights)(*prior_and_statistics(), jax.random.key(5))
    layout, merged = merge_circuits(MIXED, [one, other])
    each = np.stack([density(MIXED, part, table) for part in (one, other)])
    mean = np.logaddexp.reduce(each) - np.log(2)
    np.testing.assert_allclose(density(layout, merged, table), mean, atol=1e-12)
    # a cell given the others: circuits that the others speak for count more
    without = table.copy()
    without[:, 4] = np.nan
    less = [density(MIXED, part, without) for part in (one, other)]
    ratio = np.where(np.isnan(table[:, 4]), np.nan, mean - np.logaddexp(*less) + np.log(2))
    np.testing.assert_allclose(left_out(layout, merged, table)[:, 4], ratio, atol=1e-10)


def test_one_state_is_conjugate():
    """With one state the posterior is Dirichlet and normal-inverse-Wishart, and the bound exact."""
    from scipy.special import gammaln, multigammaln

    random = np.random.default_rng(0)
    table = np.concatenate(
        [random.integers(0, 2, (30, 1)), random.normal(size=(30, 2)) @ [[1, 0.5], [0, 1]]], axis=1
    )
    layout = Layout((-1, 0), 1, ((0, 0, 2),), (((1, 2), 1),))
    prior, found = learned(layout, table)
    counts = np.bincount(table[:, 0].astype(int), minlength=2)
    np.testing.assert_allclose(found.statistics.levels[0][0, 0], counts, rtol=1e-6)
    (w,) = jax.jit(wisharts)(prior, found.statistics)
    x, d, n = table[:, 1:], 2, 30
    kappa = prior.kappa
    mean = x.sum(0) / (n + kappa)
    psi = 0.5 * np.eye(2) + x.T @ x - (n + kappa) * np.outer(mean, mean)
    np.testing.assert_allclose(w.psi[0, 0], psi, rtol=1e-10)
    a = np.asarray(prior.levels[0][0, 0])
    evidence = gammaln(a.sum()) - gammaln(a.sum() + n) + (gammaln(a + counts) - gammaln(a)).sum()
    nu, after = d + 2.0, d + 2.0 + n
    evidence += (
        multigammaln(after / 2, d)
        - multigammaln(nu / 2, d)
        + nu / 2 * np.linalg.slogdet(0.5 * np.eye(2))[1]
        - after / 2 * np.linalg.slogdet(psi)[1]
        + d / 2 * np.log(kappa / (kappa + n))
        - n * d / 2 * np.log(np.pi)
    )
    np.testing.assert_allclose(found.bounds[-1], evidence, rtol=1e-9)


def test_the_bound_is_below_the_evidence():
    """Six rows, two states: log p(table) by the sum over all states of all rows."""
    from scipy.special import gammaln

    table = np.random.default_rng(0).integers(0, 2, (6, 2)).astype(float)
    layout = Layout((-1,), 2, ((0, 0, 2), (1, 0, 2)))
    prior, found = learned(layout, table)
    prior = jax.tree.map(np.asarray, prior)

    def log_dirichlet(a, n):
        inside = gammaln(a + n).sum(-1) - gammaln((a + n).sum(-1))
        return (inside - gammaln(a).sum(-1) + gammaln(a.sum(-1))).sum()

    terms = []
    for z in itertools.product((0, 1), repeat=6):
        roots = np.bincount(z, minlength=2)
        counts = np.zeros((2, 2, 2))
        for state, row in zip(z, table, strict=True):
            for column in (0, 1):
                counts[column, state, int(row[column])] += 1
        of_levels = log_dirichlet(prior.levels[0], counts)
        terms.append(log_dirichlet(prior.roots.reshape(-1), roots) + of_levels)
    evidence = np.logaddexp.reduce(terms)
    assert found.bounds[-1] < evidence < found.bounds[-1] + 5


def test_equal_to_a_gaussian_mixture():
    """scikit-learn's mixture with the same numbers has the same densities and responsibilities."""
    from sklearn.mixture import GaussianMixture

    x = np.random.default_rng(0).normal(size=(80, 3))
    mixture = GaussianMixture(2, random_state=0).fit(x)
    layout = Layout((-1,), 2, (), (((0, 1, 2), 0),))
    normals = Normals(jnp.asarray(mixture.means_[None]), jnp.asarray(mixture.covariances_[None]))
    roots = jnp.log(jnp.asarray(mixture.weights_[None]))
    weights = Weights(roots, jnp.zeros((0, 2, 2)), (), (normals,))
    expected = mixture.score_samples(x)
    np.testing.assert_allclose(density(layout, weights, x), expected, rtol=1e-10)


def test_the_distribution_of_a_row_samples_what_it_scores():
    layout, weights = binary_circuit(columns=3)
    row = CircuitRow(layout, jax.tree.map(jnp.asarray, weights))
    rows = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    p = np.exp(jax.jit(row.log_prob)(rows))
    drawn = np.asarray(jax.jit(row.sample, static_argnums=1)(jax.random.key(0), (8000,)))
    counts = (drawn[:, None] == rows).all(-1).sum(0)
    chi2 = ((counts - 8000 * p) ** 2 / (8000 * p)).sum()
    assert chi2 < 7 + 5 * np.sqrt(14)
