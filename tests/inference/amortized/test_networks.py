"""The invariances of networks, and the units of their targets."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference.amortized.kinds import init_network
from inference.amortized.network import Shape, context_units
from inference.distributions.bars import Grids


@pytest.fixture(
    scope="module", params=[("rows", None), ("rows", (0.5, 2.0)), ("cells", (0.5, 2.0))], ids=str
)
def network(request):
    """Weights of a network that does something: none is zero."""
    tokens, unit = request.param
    shape = Shape(
        2,
        5,
        width=16,
        layers=2,
        heads=2,
        hidden=32,
        num_latents=1,
        latent_bars=3,
        tokens=tokens,
        unit=unit,
    )
    blank = init_network(shape, jax.random.key(0))
    leaves, structure = jax.tree.flatten(blank)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return jax.tree.unflatten(
        structure,
        [
            leaf + 0.2 * jax.random.normal(key, leaf.shape)
            for leaf, key in zip(leaves, keys, strict=True)
        ],
    )


def context(rows=9, queries=6, seed=0):
    rng = np.random.default_rng(seed)
    return (jnp.asarray(rng.normal(size=(1, n, 2)), jnp.float32) for n in (rows, queries)), rng


@pytest.mark.parametrize(
    "rows", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)]
)
@pytest.mark.quick_cases(1)
def test_padding_order_and_other_queries_change_nothing(network, rows):
    (X, X_new), rng = context()
    y = jnp.asarray(rng.normal(size=(1, 9)), jnp.float32)
    count = jnp.array([rows])
    expected = network.predict(network.condition(X, y, count), X_new)
    assert float(jnp.abs(expected).max()) > 0.1

    padded = network.condition(X.at[:, rows:].set(7.0), y.at[:, rows:].set(-5e6), count)
    np.testing.assert_array_equal(
        network.predict(padded, X_new), expected
    )  # padding is never attended to
    if padded.units is not None:
        np.testing.assert_array_equal(padded.units, network.condition(X, y, count).units)

    order = np.r_[np.arange(rows)[::-1], np.arange(rows, 9)]
    moved = network.predict(network.condition(X[:, order], y[:, order], count), X_new)
    np.testing.assert_allclose(moved, expected, atol=1e-4)

    cache = network.condition(X, y, count)
    others = network.predict(cache, X_new.at[:, 1:].add(3.0))
    np.testing.assert_array_equal(others[:, 0], expected[:, 0])
    one_by_one = jnp.concatenate([network.predict(cache, X_new[:, i : i + 1]) for i in range(6)], 1)
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.quick_cases(1)
def test_the_context_matters(network):
    (X, X_new), rng = context()
    y = jnp.asarray(rng.normal(size=(1, 9)), jnp.float32)
    few, many = (network.condition(X, y, jnp.array([n])) for n in (4, 5))
    assert float(jnp.abs(network.predict(few, X_new) - network.predict(many, X_new)).max()) > 1e-3
    assert float(jnp.abs(network.predict_latents(few) - network.predict_latents(many)).max()) > 1e-3


@pytest.mark.quick_cases(1)
def test_the_order_of_columns_matters_to_rows_alone(network):
    (X, X_new), rng = context()
    y = jnp.asarray(rng.normal(size=(1, 9)), jnp.float32)
    answers = [
        network.predict(network.condition(X[..., way], y, jnp.array([7])), X_new[..., way])
        for way in ([0, 1], [1, 0])
    ]
    change = float(jnp.abs(answers[0] - answers[1]).max())
    assert change < 1e-4 if network.shape.tokens == "cells" else change > 0.1
    half = network.predict(network.condition(X, y, jnp.array([7])), X_new[..., [1, 0]])
    assert float(jnp.abs(answers[0] - half).max()) > 0.1


def test_the_first_layer_of_cells_knows_how_large_a_target_is():
    network = init_network(
        Shape(2, 5, width=16, layers=1, heads=2, hidden=32, tokens="cells"), jax.random.key(0)
    )
    (X, _), _ = context(rows=1)
    small, large = (
        network.condition(X, jnp.full((1, 1), y), jnp.array([1])).keys_values[0] for y in (1.0, 5.0)
    )
    assert float(jnp.abs(small - large)[:, 0, 1].max()) > 0.05  # of the target's own cell


def test_units_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    y, rows, (c0, s0) = rng.normal(size=(4, 9)) * 3 + 1, np.array([0, 1, 5, 9]), (0.7, 2.0)
    found = np.asarray(context_units(jnp.asarray(y, jnp.float32), jnp.asarray(rows), (c0, s0)))
    for one, n, (center, spread) in zip(y, rows, found, strict=True):
        c = (c0 + one[:n].sum()) / (1 + n)
        assert center == pytest.approx(c, rel=1e-5)
        assert spread == pytest.approx(
            np.sqrt((s0**2 + (c0 - c) ** 2 + ((one[:n] - c) ** 2).sum()) / (1 + n)), rel=1e-5
        )


def test_a_time_is_turned_into_as_many_steps_as_it_holds():
    """Steps of at least 20 ms, ten of which are for measuring: a second holds at most 40 more."""
    from inference.amortized.steps.optimizer import State
    from inference.amortized.training import affordable_steps

    def compiled(state, key, count, steps, grids):
        time.sleep(0.02 * int(count))
        return state

    steps = affordable_steps(
        State(*[None] * 4), compiled, jax.random.key(0), Grids(None), 1.0, time.perf_counter()
    )
    assert 1 <= steps <= 40
