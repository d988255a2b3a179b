"""Products of functions and their messages, against sums over entries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference.messages.forms import CP, Moments, Tucker


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def random_factors(ranks, sizes, seed=0):
    rng = np.random.default_rng(seed)
    factors = []
    for r, d in zip(ranks, sizes, strict=True):
        mean, B = rng.normal(size=(d, r)), rng.normal(size=(d, r, r + 1))
        covariance = np.einsum("dij,dkj->dik", B, B)
        factors.append(
            Moments(
                jnp.asarray(mean), jnp.asarray(covariance + np.einsum("di,dj->dij", mean, mean))
            )
        )
    total = int(np.prod(ranks))
    mean, B = rng.normal(size=total), rng.normal(size=(total, total))
    core = Moments(jnp.asarray(mean), jnp.asarray(B @ B.T / total + np.outer(mean, mean)))
    places = [rng.integers(0, d, 50) for d in sizes]
    return factors, core, [jnp.asarray(p) for p in places], rng


def test_tucker_messages_equal_those_of_each_entry():
    """Ranks (2, 3, 4): sums against a loop over entries in NumPy, and message times factor against
    the prediction.
    """
    ranks, sizes = (2, 3, 4), (5, 6, 7)
    factors, core, places, rng = random_factors(ranks, sizes)
    weights, linear = rng.uniform(1, 2, 50), rng.normal(size=50)
    form = Tucker()
    W, WW = np.asarray(core.mean).reshape(ranks), np.asarray(core.second).reshape(ranks * 2)
    mean, second = form.entries(factors, core, places)
    means, seconds = ([np.asarray(part) for part in parts] for parts in zip(*factors, strict=True))
    for k in range(3):
        precision, information = form.message(
            k, factors, core, places, jnp.asarray(weights), jnp.asarray(linear)
        )
        expected = np.zeros((sizes[k], ranks[k], ranks[k])), np.zeros((sizes[k], ranks[k]))
        for n in range(50):
            u = [means[j][places[j][n]] for j in range(3)]
            uu = [seconds[j][places[j][n]] for j in range(3)]
            letters = [("a", "d"), ("b", "e"), ("c", "f")]
            others = [j for j in range(3) if j != k]
            a = np.einsum(
                f"abc,{','.join(letters[j][0] for j in others)}->{letters[k][0]}",
                W,
                *(u[j] for j in others),
            )
            aa = np.einsum(
                f"abcdef,{','.join(''.join(letters[j]) for j in others)}->{''.join(letters[k])}",
                WW,
                *(uu[j] for j in others),
            )
            assert u[k] @ a == pytest.approx(float(mean[n]), abs=1e-12)
            assert (uu[k] * aa).sum() == pytest.approx(float(second[n]), rel=1e-12)
            expected[0][places[k][n]] += weights[n] * aa
            expected[1][places[k][n]] += linear[n] * a
        np.testing.assert_allclose(precision, expected[0], rtol=1e-10)
        np.testing.assert_allclose(information, expected[1], rtol=1e-10, atol=1e-10)
    messages = form.core_message(factors, places, jnp.asarray(weights), jnp.asarray(linear))
    products = np.stack(
        [
            np.einsum("a,b,c->abc", *(means[j][places[j][n]] for j in range(3))).ravel()
            for n in range(50)
        ]
    )
    np.testing.assert_allclose(messages[1], products.T @ linear, rtol=1e-10, atol=1e-10)
    squares = np.einsum(
        "n,nad,nbe,ncf->abcdef", weights, *(seconds[j][np.asarray(places[j])] for j in range(3))
    ).reshape(24, 24)
    np.testing.assert_allclose(messages[0], squares, rtol=1e-10)


def test_cp_is_tucker_with_a_superdiagonal_core():
    factors, _, places, rng = random_factors((3, 3, 3), (5, 6, 7))
    superdiagonal = np.zeros((3, 3, 3))
    superdiagonal[np.arange(3), np.arange(3), np.arange(3)] = 1.0
    core = Moments(
        jnp.asarray(superdiagonal.ravel()),
        jnp.asarray(np.outer(superdiagonal.ravel(), superdiagonal.ravel())),
    )
    weights, linear = jnp.asarray(rng.uniform(1, 2, 50)), jnp.asarray(rng.normal(size=50))
    for one, other in zip(
        CP().entries(factors, None, places), Tucker().entries(factors, core, places), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-10)
    for k in range(3):
        pair = (
            CP().message(k, factors, None, places, weights, linear),
            Tucker().message(k, factors, core, places, weights, linear),
        )
        for one, other in zip(*pair, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
