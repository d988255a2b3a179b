"""Parameters (`numpyro.param`) and modules of flax and Equinox in NumPyro programs.

`VI` learns parameters; other engines keep them where they start, and say so. Weights with priors
are latent sites like any other. State that changes as a program runs is refused by name.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib import module

import bayesdl as bdl
from inference.core.engine import UnsupportedError

# chains are short: whether they are long enough is no matter here
pytestmark = pytest.mark.filterwarnings("ignore::bayesdl.warnings.TrustWarning")

RNG = np.random.default_rng(0)
X = np.linspace(-1, 1, 20)
Y = 1 + 0.5 * X + 0.3 * RNG.normal(size=20)
TABLE = np.stack([X, X**2], axis=1)
FIXED = [bdl.Laplace(), bdl.NUTS(num_warmup=20, num_samples=20, num_chains=1)]


def shifted(x, y=None):
    c = numpyro.param("c", 0.0)
    w = numpyro.sample("w", dist.Normal(0, 1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(c + w * x, 0.3), obs=y)


def positive(x, y=None):
    scale = numpyro.param("scale", 1.0, constraint=dist.constraints.positive)
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a + x, scale), obs=y)


def linear(net, X, y):
    with numpyro.plate("rows", len(X)):
        numpyro.sample("y", dist.Normal(net(jnp.asarray(X))[:, 0], 0.3), obs=y)


def linen(X, y=None):
    nn = pytest.importorskip("flax.linen")
    numpyro.sample("a", dist.Normal(0, 1))
    linear(module.flax_module("net", nn.Dense(1), input_shape=(1, 2)), X, y)


def random_linen(X, y=None):
    nn = pytest.importorskip("flax.linen")
    net = module.random_flax_module("net", nn.Dense(1), dist.Normal(0, 1), input_shape=(1, 2))
    linear(net, X, y)


def nnx(X, y=None):
    nnx = pytest.importorskip("flax.nnx")
    numpyro.sample("a", dist.Normal(0, 1))
    linear(module.nnx_module("net", nnx.Linear(2, 1, rngs=nnx.Rngs(0))), X, y)


def random_nnx(X, y=None):
    nnx = pytest.importorskip("flax.nnx")
    layer = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    linear(module.random_nnx_module("net", layer, dist.Normal(0, 1)), X, y)


def equinox(X, y=None):
    numpyro.sample("a", dist.Normal(0, 1))
    layer = eqx.nn.Linear(2, 1, key=jax.random.key(0))
    linear(jax.vmap(module.eqx_module("net", layer)), X, y)


def random_equinox(X, y=None):
    layer = eqx.nn.Linear(2, 1, key=jax.random.key(0))
    linear(jax.vmap(module.random_eqx_module("net", layer, dist.Normal(0, 1))), X, y)


def normalised(X, y=None):
    nn = pytest.importorskip("flax.linen")

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.BatchNorm(use_running_average=False)(x))

    numpyro.sample("a", dist.Normal(0, 1))
    net = module.flax_module("net", Network(), input_shape=(1, 2), mutable=["batch_stats"])
    linear(net, X, y)


def fit(program, *args, engine, **kwargs):
    return bdl.fit(program, *args, engine=engine, progress=False, **kwargs)


def test_vi_learns_a_parameter_and_saves_it(tmp_path):
    post = fit(shifted, X, y=Y, engine=bdl.VI(steps=800))
    # x is symmetric, so that the most probable c is the mean of y; its steps are of size 0.03
    np.testing.assert_allclose(post.predict(np.zeros(1)).mean[0], Y.mean(), atol=0.06)
    back = bdl.load(post.save(tmp_path / "fit.bdl"), model=shifted)
    np.testing.assert_array_equal(back.predict(X).mean, post.predict(X).mean)


@pytest.mark.slow
def test_vi_keeps_a_parameter_inside_its_constraint():
    post = fit(positive, X, y=X + 0.2 * RNG.normal(size=20), engine=bdl.VI(steps=600))
    assert 0.1 < post.predict(X).aleatoric.mean() < 0.35


@pytest.mark.parametrize("engine", FIXED, ids=lambda engine: type(engine).__name__)
def test_other_engines_keep_a_parameter_and_say_so(engine):
    with pytest.warns(UserWarning, match="'c' is not inferred .* stays at 0"):
        post = fit(shifted, X, y=Y, engine=engine)
    assert any("'c' is not inferred" in line for line in post.diagnose().verdict)
    np.testing.assert_allclose(post.predict(np.zeros(3)).mean, 0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("program", [linen, nnx, equinox], ids=lambda one: one.__name__)
def test_weights_without_a_prior_are_parameters(program):
    learned = fit(program, TABLE, y=Y, engine=bdl.VI(steps=800))
    # the errors of least squares, which has an intercept too
    design = np.c_[np.ones(20), TABLE]
    fitted = design @ np.linalg.lstsq(design, Y, rcond=None)[0]
    np.testing.assert_allclose(learned.predict(TABLE).mean, fitted, atol=0.15)
    kept = fit(program, TABLE, y=Y, engine=bdl.Laplace())
    assert any("net" in line and "not inferred" in line for line in kept.diagnose().verdict)


@pytest.mark.parametrize(
    "program", [random_linen, random_nnx, random_equinox], ids=lambda one: one.__name__
)
def test_weights_with_a_prior_are_latent_sites(program):
    post = fit(program, TABLE, y=Y, engine=bdl.Laplace())
    assert all(name.startswith("net/") for name in post.problem.latents)
    # the posterior mean of a linear model with a standard normal prior
    design = np.c_[TABLE, np.ones(20)]
    mean = np.linalg.solve(design.T @ design / 0.09 + np.eye(3), design.T @ Y / 0.09)
    # 1000 draws, whose means have a standard error of at most 0.2 / sqrt(1000)
    np.testing.assert_allclose(post.predict(TABLE).mean, design @ mean, atol=0.03)
    assert not any("not inferred" in line for line in post.diagnose().verdict)


def test_weights_with_a_prior_are_judged_under_vi():
    post = fit(random_linen, TABLE, y=Y, engine=bdl.VI(steps=100))
    assert post.diagnose().verdict
    weights = post.raw.log_weights(jax.random.key(0), 20)
    # of the very weights that the program draws: the ELBO is their mean
    assert np.isfinite(weights).all()


def test_a_network_that_starts_at_random_numbers_is_known_again(tmp_path):
    post = fit(linen, TABLE, y=Y, engine=bdl.Laplace())
    back = bdl.load(post.save(tmp_path / "fit.bdl"), model=linen)
    np.testing.assert_array_equal(back.predict(TABLE).mean, post.predict(TABLE).mean)


@pytest.mark.parametrize("engine", [*FIXED, bdl.VI(steps=5)], ids=lambda one: type(one).__name__)
def test_state_that_changes_is_refused_by_name(engine):
    with pytest.raises(UnsupportedError, match=r"'net\$state' is mutable state"):
        fit(normalised, TABLE, y=Y, engine=engine)
