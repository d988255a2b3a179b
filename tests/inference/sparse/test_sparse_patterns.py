"""Sparse subspace VI: budgets are kept exactly, and kernels agree with matrices."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sparse_toys import make_training, regression

import bayesdl as bdl
from inference.core.keys import named_key
from inference.sparse.patterns.budget import allocate_budget
from inference.sparse.patterns.pattern import BudgetError, Pattern
from inference.sparse.products.kernels import KERNELS, supported_kernels

STRUCTURES = ("unstructured", "fan_in", "block:4", "neurons")
PATTERNS = {
    "unstructured": Pattern((9, 14), (1, 1), False, 30),
    "fan_in": Pattern((9, 14), (1, 1), True, 3),
    "blocks": Pattern((8, 12), (4, 4), True, 2),
    "padded blocks": Pattern((9, 14), (4, 4), True, 2),
    "neurons": Pattern((9, 14), (1, 14), False, 4),
    "dense": Pattern((9, 14), (9, 14), False, 1),
}


def take_thousand_steps(model, X, y, **settings):
    """Return the index of each store after each of 1,000 steps, which exchanges follow."""
    training, state, data = make_training(model, X, y, every=1, steps=2000, **settings)

    def one(state, i):
        state, _ = training.step(i, state, data)
        state, _ = training.exchange(state, i, jnp.asarray(training.engine.rate), data)
        return state, state.index

    _, found = jax.jit(lambda state: jax.lax.scan(one, state, jnp.arange(1000)))(state)
    return training.layout, jax.tree.map(np.asarray, found)


@pytest.mark.parametrize(
    "case", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, 6))]
)
def test_budgets_are_kept_after_every_step(case):
    rng = np.random.default_rng(case)
    structure = (*STRUCTURES, "global", "block:16")[case]
    density = (
        float(rng.uniform(0.3, 0.5))
        if structure.startswith("block")
        else float(np.exp(rng.uniform(*np.log([0.06, 0.5]))))
    )
    widths = tuple(int(w) for w in rng.integers(40, 90, 2))
    settings = {"allocation": "global"} if structure == "global" else {"structure": structure}
    X, y = regression(columns=int(rng.integers(33, 50)))
    layout, found = take_thousand_steps(bdl.BNN(hidden=widths), X, y, density=density, **settings)
    changed = 0
    for store, pattern in layout.patterns.items():
        index = found[store].astype(np.int64)
        assert index.shape == (1000, *pattern.index_shape)
        assert index.min() >= 0
        assert index.max() < pattern.candidates
        # sorted and unique
        assert (np.diff(index, axis=2) > 0).all()
        changed += (np.diff(index, axis=0) != 0).sum()
    assert changed > 0
    assert sum(p.size for p in layout.patterns.values()) <= density * sum(
        map(math.prod, layout.shapes.values())
    )


@pytest.mark.parametrize("density", [0.005, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("structure", ["unstructured", "fan_in", "block:16", "block:32", "neurons"])
@pytest.mark.parametrize("allocation", ["uniform", "erk"])
@pytest.mark.quick_cases(8)
def test_budgets_are_below_the_density(density, structure, allocation):
    shapes = {"a": (1024, 784), "b": (1024, 1024), "c": (10, 1024)}
    total = sum(map(math.prod, shapes.values()))
    dense = ("c",) if density >= 0.02 else ()
    too_few = {("block:16", 0.005), ("block:32", 0.005), ("block:16", 0.02), ("block:32", 0.02)}
    too_few |= {("neurons", 0.005)} if allocation == "uniform" else set()  # of ten units
    if (structure, density) in too_few:
        with pytest.raises(BudgetError, match="the least is"):
            allocate_budget(shapes, density, allocation, structure, dense)
        return
    found = allocate_budget(shapes, density, allocation, structure, dense)
    active = sum(p.size for p in found.values())
    unit = max(p.size // p.count for name, p in found.items() if not p.is_dense)
    # large odd budgets lose one weight
    assert density * total - unit - len(found) < active <= density * total
    assert all(p.size % 2 == 0 for p in found.values() if p.size > 1000)
    assert found["c"].is_dense or not dense


def test_erk_gives_small_layers_more():
    shapes = {"a": (100, 200), "b": (20, 30), "c": (5, 5)}
    found = allocate_budget(shapes, 0.1, "erk", "unstructured", ())
    assert found["c"].is_dense
    expected = (20 + 30) / (20 * 30) / ((100 + 200) / (100 * 200))
    assert found["b"].density / found["a"].density == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.quick_cases(3)
def test_kernels_are_products_with_the_scattered_matrix(name):
    pattern = PATTERNS[name]
    key = jax.random.key(0)
    index = pattern.draw_index(key)
    mean, variance = (
        jax.random.normal(key, pattern.values_shape),
        jax.random.uniform(named_key(key, "v"), pattern.values_shape),
    )
    h = jax.random.normal(named_key(key, "h"), (pattern.shape[1], 5))
    inside = pattern.inside_mask(index)

    def loss(multiply, h, mean, variance):
        m, v = multiply(h, jnp.where(inside, mean, 0.0), jnp.where(inside, variance, 0.0))
        return jnp.sum(jnp.sin(m)) + jnp.sum(jnp.sqrt(v + 1.0))

    def by_matrices(h, mean, variance):
        (a, b), columns = pattern.tile, pattern.grid[1]
        where = jnp.zeros(pattern.padded_shape), jnp.zeros(pattern.padded_shape)
        for place, number in enumerate(np.asarray(pattern.tile_numbers(index))):  # tile by tile
            group, k = divmod(place, pattern.count)
            row, column = divmod(int(number), columns)
            at = (slice(row * a, row * a + a), slice(column * b, column * b + b))
            where = tuple(
                w.at[at].set(v[group, k]) for w, v in zip(where, (mean, variance), strict=True)
            )
        m, v = (w[: pattern.shape[0], : pattern.shape[1]] for w in where)
        return m @ h, v @ (h * h)

    expected = jax.value_and_grad(functools.partial(loss, by_matrices), argnums=(0, 1, 2))(
        h, mean, variance
    )
    for kernel in {*supported_kernels(pattern), "transient"}:

        def multiply(h, mean, variance, kernel=kernel):
            return KERNELS[kernel](pattern, h, index, mean, variance)

        found = jax.value_and_grad(functools.partial(loss, multiply), argnums=(0, 1, 2))(
            h, mean, variance
        )
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5),
            found,
            expected,
        )
        alone, none = KERNELS[kernel](pattern, h, index, mean, None)
        assert none is None
        np.testing.assert_allclose(
            alone, by_matrices(h, jnp.where(inside, mean, 0.0), variance)[0], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    "structure", [pytest.param("fan_in", marks=pytest.mark.slow), "block:4", "neurons"]
)
def test_kernels_agree_in_loss_and_gradient(structure):
    X, y = regression()
    kernel = structure.partition(":")[0].replace("block", "blocks")
    found = []
    for name in (kernel, "transient"):
        training, state, data = make_training(
            bdl.BNN(hidden=(12, 12)), X, y, structure=structure, kernel=name, density=0.6
        )

        def loss(params, training=training, state=state, data=data):
            terms, _ = training.objective.terms(
                params, state.index, jnp.arange(16), jax.random.key(3), data
            )
            return training.objective.value(terms)

        found.append(jax.jit(jax.value_and_grad(loss))(state.params))
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4), *found
    )


def test_scattered_and_gathered_are_inverse():
    for pattern in PATTERNS.values():
        index = pattern.draw_index(jax.random.key(1))
        values = jnp.where(
            pattern.inside_mask(index),
            jax.random.normal(jax.random.key(2), pattern.values_shape),
            0.0,
        )
        np.testing.assert_array_equal(pattern.gather(index, pattern.scatter(index, values)), values)
