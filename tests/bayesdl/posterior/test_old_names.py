"""Names of earlier versions still work, and say the new ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bayesdl as bdl
from inference.sparse.decompression import SparseDecompression
from inference.sparse.posterior import SparseApproximation

X = np.linspace(-1, 1, 12)[:, None]
Y = np.sin(3 * X[:, 0])


@pytest.fixture(scope="module")
def linear():
    model = bdl.BNN(hidden=(), likelihood=bdl.Normal(scale=0.3))
    return bdl.fit(model, X, Y, engine=bdl.Laplace(num_draws=20), progress=False)


@pytest.mark.parametrize("name", ["frame", "law", "predictive", "traceable", "covary"])
def test_attributes_of_a_posterior(linear, name):
    with pytest.warns(DeprecationWarning, match=rf"{name} is deprecated.*use post\."):
        getattr(linear, name)


def test_they_give_what_they_gave(linear):
    with pytest.warns(DeprecationWarning):
        assert linear.traceable is True
    with pytest.warns(DeprecationWarning):
        assert linear.rows_correlated is False
    with pytest.warns(DeprecationWarning):
        draws = linear.raw.sample(linear.draws_key, linear.raw.num_draws)
    assert np.array_equal(draws["layer0.weight"], linear.samples["layer0.weight"][0])


def test_attributes_of_a_result_of_ssvi():
    raw = SparseApproximation(
        {"a": np.ones(2)},
        draw=dict,
        log_weight=lambda key, params: jnp.zeros(()),
        losses=np.zeros(1),
        draw_compressed=lambda key, params: {"w": params["a"] * jax.random.normal(key)},
        decompression=object.__new__(SparseDecompression),
        weighable=True,
    )
    with pytest.warns(DeprecationWarning, match=r"use post\.raw\.draw_compressed"):
        assert raw.packed is raw.draw_compressed
    with pytest.warns(DeprecationWarning, match=r"use post\.raw\.decompression"):
        assert raw.unpacking is raw.decompression
    with pytest.warns(DeprecationWarning, match=r"use post\.raw\.sample_compressed"):
        old = raw.packed_sample(jax.random.key(0), 2)
    assert np.array_equal(old["w"], raw.sample_compressed(jax.random.key(0), 2)["w"])
