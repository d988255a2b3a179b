"""`bdl.load` refuses code that is not the code that was fitted, and names the site."""

import json
import zipfile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from drawn_posteriors import drawn
from numpyro.infer import log_likelihood

import bayesdl as bdl
from inference.core.problem import Problem
from inference.terms import log_density_terms

X = np.linspace(-1, 1, 20)
Y = 1 + 2 * X + 0.2 * np.cos(37 * X)
COUNTS = np.round(np.exp(1 + X) + np.cos(37 * X)).astype(int)


def line(x, y=None, likelihood=dist.Normal, width=1.0, link=lambda x: x, noise=dist.HalfNormal(1)):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, width))
    sigma = numpyro.sample("sigma", noise)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", likelihood(a + b * link(x), sigma), obs=y)


def variant(**settings):
    def program(x, y=None):
        line(x, y, **settings)

    return program


def rewritten(x, y=None):
    """The same model in another order, without a plate."""
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    z = {name: numpyro.sample(name, dist.Normal(jnp.zeros(()), 1.0)) for name in "ba"}
    mean = jnp.stack([jnp.ones(len(x)), x], 1) @ jnp.stack([z["a"], z["b"]])
    numpyro.sample("y", dist.Normal(mean, sigma).to_event(1), obs=y)


def with_factor(x, y=None):
    line(x, y)
    numpyro.factor("penalty", -1.0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    post = drawn(line, X, y=Y)
    return post, post.save(tmp_path_factory.mktemp("identity") / "line.bdl")


@pytest.mark.parametrize("program", [line, variant(), rewritten], ids=["same", "wrapped", "other"])
def test_the_same_model_loads_however_it_is_written(saved, program):
    again = bdl.load(saved[1], program)
    np.testing.assert_array_equal(again.samples["b"], saved[0].samples["b"])


@pytest.mark.slow
def test_an_approximation_keeps_the_order_of_its_sites(tmp_path):
    post = bdl.fit(line, X, y=Y, engine=bdl.VI(steps=20), progress=False)
    path = post.save(tmp_path / "a.bdl")
    np.testing.assert_array_equal(bdl.load(path, line).samples["b"], post.samples["b"])
    with pytest.raises(bdl.BundleError, match=r"restore the order \['a', 'b', 'sigma'\]"):
        bdl.load(path, rewritten)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            variant(link=lambda x: x**2),
            r"site 'y': log density .* in the file, .* by this program\. ",
        ),
        (variant(likelihood=lambda m, s: dist.Normal(m, 10 * s)), "site 'y': log density"),
        (
            variant(likelihood=lambda m, s: dist.StudentT(4, m, s)),
            r"site 'y': .* \(was Normal, is StudentT\)",
        ),
        (variant(width=1.1), r"site 'b': log density .*by this program\. Give"),
        (variant(noise=dist.Exponential(1)), r"'sigma': .*\(was HalfNormal, is Exponential\)"),
        (with_factor, "site 'penalty' is absent in the file"),
    ],
    ids=["link", "scale", "likelihood", "prior", "prior's class", "factor"],
)
@pytest.mark.quick_cases(2)
def test_another_model_is_refused(saved, program, said):
    with pytest.raises(bdl.BundleError, match=f"holds the fit of another model.*{said}"):
        bdl.load(saved[1], program)


def test_terms_are_those_of_numpyro(saved):
    post, path = saved
    with zipfile.ZipFile(path) as archive:
        stored = json.loads(archive.read("manifest.json"))["identity"]["terms"]["y"]
    draws = {name: post.sample(2)[name] for name in ("a", "b", "sigma")}
    expected = log_likelihood(line, draws, X, y=Y)["y"].sum(1)
    np.testing.assert_allclose(stored["log_density"][:2], expected, rtol=1e-5)


def test_files_without_terms_load_as_before(saved, tmp_path):
    old = tmp_path / "old.bdl"
    with zipfile.ZipFile(saved[1]) as archive, zipfile.ZipFile(old, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "manifest.json":
                manifest = json.loads(content)
                del manifest["identity"], manifest["integrity"]
                content = json.dumps(manifest)
            copy.writestr(name, content)
    again = bdl.load(old, variant(link=lambda x: x**2))
    np.testing.assert_array_equal(again.samples["b"], saved[0].samples["b"])


def test_data_from_outside_the_arguments_belong_to_the_model(tmp_path):
    def make(x):
        def program(y=None):
            line(x, y)

        return program

    path = drawn(make(X), y=Y).save(tmp_path / "a.bdl")
    bdl.load(path, make(X.copy()))
    with pytest.raises(bdl.BundleError, match="Data that the function takes from outside"):
        bdl.load(path, make(X + 0.01))


def test_a_factor_alone_is_compared(tmp_path):
    def make(power):
        def program():
            z = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), (2,)))
            numpyro.factor("energy", -jnp.sum(jnp.abs(z) ** power))

        return program

    path = drawn(make(2)).save(tmp_path / "a.bdl")
    bdl.load(path, make(2))
    with pytest.raises(bdl.BundleError, match="site 'energy': log density"):
        bdl.load(path, make(2.5))


def test_minibatch_plates_and_counts(tmp_path):
    def make(likelihood):
        def program(x, y=None):
            b = numpyro.sample("b", dist.Normal(0, 1).expand([2]).to_event(1))
            with numpyro.plate("rows", len(x), subsample_size=5) as rows:
                rate = jnp.exp(b[0] + b[1] * jnp.asarray(x)[rows])
                numpyro.sample("y", likelihood(rate), obs=None if y is None else y[rows])

        return program

    path = drawn(make(dist.Poisson), X, y=COUNTS).save(tmp_path / "a.bdl")
    bdl.load(path, make(dist.Poisson))
    with pytest.raises(bdl.BundleError, match=r"was Poisson, is NegativeBinomial2"):
        bdl.load(path, make(lambda rate: dist.NegativeBinomial2(rate, 50.0)))


def test_a_parameter_and_random_numbers_inside(tmp_path):
    def make(width, start=0.5):
        def program(x, y=None):
            c = numpyro.param("c", start)
            d = numpyro.param("d", lambda key: jax.random.normal(key, (2,)))
            b = numpyro.sample("b", dist.Normal(c, width))
            noise = jax.random.normal(numpyro.prng_key(), (3,)).sum()
            numpyro.sample("lost", dist.Normal(noise, 1.0), obs=jnp.zeros(()))
            with numpyro.plate("rows", len(x)):
                numpyro.sample("y", dist.Normal(b * x + d.sum(), 0.5), obs=y)

        return program

    path = drawn(make(1.0), X, y=Y).save(tmp_path / "a.bdl")
    bdl.load(path, make(1.0))
    with pytest.raises(bdl.BundleError, match="site 'b'"):
        bdl.load(path, make(2.0))


def test_discrete_latents_are_compared():
    def make(other):
        def program(x, y=None):
            w = numpyro.sample("w", dist.Beta(1.0, 1.0))
            with numpyro.plate("rows", len(x)):
                k = numpyro.sample("k", dist.Bernoulli(w))
                numpyro.sample("y", dist.Normal(jnp.array([0.0, other])[k], 1.0), obs=y)

        return Problem(program, (X,), {"y": Y})

    at = [{"w": np.array(0.7, np.float32)}]
    one, same, other = (log_density_terms(make(mean), at) for mean in (2.0, 2.0, 3.0))
    states = np.arange(20) % 2
    expected = np.log([0.3, 0.7])[states].sum()
    np.testing.assert_allclose(one["k"].log_density[0], expected, rtol=1e-5)
    assert one == same
    assert one["k"] == other["k"] and one["y"] != other["y"]


def test_an_equinox_network_is_compared(tmp_path):
    def make(activation):
        network = eqx.nn.MLP(2, "scalar", 3, 1, activation=activation, key=jax.random.key(0))
        return bdl.BNN(network=network, prior=bdl.priors.Gaussian())

    inputs = np.stack([X, X**2], 1)
    path = drawn(make(jnp.tanh), inputs, Y).save(tmp_path / "a.bdl")
    bdl.load(path, make(jnp.tanh))
    with pytest.raises(bdl.BundleError, match="site 'y': log density"):
        bdl.load(path, make(jax.nn.relu))


def test_another_guide_is_refused(tmp_path):
    def make(width):
        def guide(x, y=None):
            loc = numpyro.param("loc", jnp.zeros(2))
            for i, name in enumerate("ab"):
                numpyro.sample(name, dist.Normal(loc[i], width))
            numpyro.sample("sigma", dist.LogNormal(-1.0, 0.1))

        return bdl.VI(guide, steps=20)

    path = bdl.fit(line, X, y=Y, engine=make(0.1), progress=False).save(tmp_path / "a.bdl")
    bdl.load(path, line, make(0.1))
    with pytest.raises(bdl.BundleError, match="another guide than the one given"):
        bdl.load(path, line, make(0.2))
