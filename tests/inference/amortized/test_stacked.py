"""Stacked networks: values without a row against refits, orders, padding, and other queries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference.amortized.kinds import init_network
from inference.amortized.network import Shape
from inference.amortized.stacked import discriminant, learners, statistics
from inference.amortized.stacked.columns import Columns

CLASSES = 3
fit = jax.jit(learners.fit, static_argnums=3)


def data(rows=20, columns=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns))
    y = np.argmax(1.5 * X @ rng.normal(size=(columns, CLASSES)) + rng.normal(size=(rows, 3)), 1)
    return X.astype(np.float32), y.astype(np.int32)


@pytest.fixture(scope="module")
def network():
    """A network whose gate does something."""
    shape = Shape(3, CLASSES, num_classes=CLASSES, width=8, tokens="stacked")
    blank = init_network(shape, jax.random.key(0))
    last = 0.05 * jax.random.normal(jax.random.key(1), blank.gate.last.shape)
    return dataclasses.replace(blank, gate=dataclasses.replace(blank.gate, last=last))


@jax.jit
def answer(network, X, y, count, X_new):
    return network.predict(network.condition(X[None], y[None], count[None]), X_new[None])[0]


@pytest.mark.parametrize("number", [0, 1], ids=["linear", "quadratic"])
def test_discriminants_without_a_row_are_those_of_a_refit(number, monkeypatch):
    # the weight of the pooled covariance stays that of all rows
    weight = discriminant.OWN_FREEDOM / (discriminant.SHARED_FREEDOM - 1 + 20)
    monkeypatch.setattr(discriminant, "_pooling", lambda rows: jnp.asarray(weight, rows.dtype))
    X, y = data()
    targets, used = np.eye(CLASSES, dtype=np.float32)[y], np.ones(3, bool)
    refit = jax.jit(lambda *given: discriminant.fit(*given)[number])
    found = refit(X, targets, used).left_out(jnp.asarray(X), jnp.asarray(targets))
    for i in range(len(X)):
        keep = jnp.asarray(np.arange(len(X)) != i, jnp.float32)[:, None]
        one = refit(X, targets * keep, used)
        expected = jax.nn.log_softmax(one.log_joint(jnp.asarray(X[i : i + 1])))[0]
        np.testing.assert_allclose(jax.nn.log_softmax(found[i]), expected, atol=1e-4)


def test_losses_without_a_row_are_those_of_refits():
    X, y = data(24)
    _, found, targets = fit(X, y, jnp.asarray(24), CLASSES)
    losses = statistics.describe(
        found, targets, jnp.asarray(24), jnp.asarray(3), jnp.ones(CLASSES, bool)
    ).losses
    refits = []
    for i in range(24):
        last = np.r_[np.delete(np.arange(24), i), i]
        one, _, _ = fit(X[last], y[last], jnp.asarray(23), CLASSES)
        refits.append(-one.log_probs(jnp.asarray(X[i : i + 1]))[:, 0, y[i]])
    # Those of kernels are approximations, and their weakest one has a variance of 100.
    np.testing.assert_allclose(losses, np.mean(refits, 0), atol=0.2)
    np.testing.assert_allclose(losses[0], np.mean(refits, 0)[0], atol=1e-5)


def test_order_of_rows_columns_and_classes_and_padding_change_nothing(network):
    X, y = data(16)
    X_new, _ = data(7, seed=1)
    count = jnp.asarray(13)
    expected = answer(network, X, y, count, X_new)
    rows = np.r_[np.arange(13)[::-1], 13:16]
    moved = answer(network, X[rows], y[rows], count, X_new)
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    columns = [2, 0, 1]
    moved = answer(network, X[:, columns], y, count, X_new[:, columns])
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    names = np.array([1, 2, 0])
    moved = answer(network, X, names[y], count, X_new)
    np.testing.assert_allclose(moved[:, names], expected, atol=1e-4)
    wild, other = X.copy(), y.copy()
    wild[13:], other[13:] = 1e6, 2
    np.testing.assert_array_equal(answer(network, wild, other, count, X_new), expected)
    wide = np.pad(X, ((0, 4), (0, 5))), np.pad(y, (0, 4)), count, np.pad(X_new, ((0, 0), (0, 5)))
    np.testing.assert_allclose(answer(network, *wide), expected, atol=1e-4)


def test_queries_do_not_matter_to_each_other(network):
    X, y = data(16)
    X_new, _ = data(7, seed=1)
    expected = answer(network, X, y, jnp.asarray(13), X_new)
    X_new[1:] += 3
    found = answer(network, X, y, jnp.asarray(13), X_new)
    np.testing.assert_array_equal(found[0], expected[0])
    assert float(jnp.abs(found - expected).max()) > 0.1


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows_and_absent_classes_have_finite_answers(network, rows):
    X, y = data(16)
    X_new, _ = data(7, seed=1)
    found = answer(network, X, np.minimum(y, 1), jnp.asarray(rows), X_new)
    assert bool(jnp.isfinite(found).all())
    if not rows:
        np.testing.assert_allclose(jax.nn.softmax(found), 1 / 3, rtol=1e-5)


def test_ranks_and_constant_columns():
    X = jnp.array([[1.0, 5.0, 0.0], [1.0, 5.0, 2.0], [3.0, 5.0, 1.0], [9.0, 9.0, 9.0]])
    columns = Columns.learn(X, jnp.arange(4) < 3)
    view = columns.view(X[:3])
    np.testing.assert_array_equal(columns.used, [True, False, True])
    np.testing.assert_allclose(view.u[:, 0], np.array([1.5, 1.5, 3.0]) / 4)
    np.testing.assert_allclose(view.z[:, 2], [-np.sqrt(1.5), np.sqrt(1.5), 0], atol=1e-6)
    np.testing.assert_array_equal(view.z[:, 1], 0)
