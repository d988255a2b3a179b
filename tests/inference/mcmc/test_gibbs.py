"""Gibbs sampling of discrete sites, against exact sums."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from arviz_stats.base.array import array_stats
from numpyro.contrib.control_flow import scan
from scipy import stats

import bayesdl as bdl
from bayesdl import UnsupportedError
from bayesdl.warnings import TrustWarning
from inference.core.enumeration.indexed import indexed
from inference.core.problem import Problem

RNG = np.random.default_rng(0)
FAR = 4.0  # standard errors


def fitted(program, *args, draws=400, **kwargs):
    settings = {name: kwargs.pop(name) for name in list(kwargs) if hasattr(bdl.Gibbs, name)}
    engine = bdl.Gibbs(num_warmup=200, num_samples=draws, num_chains=2, **settings)
    return bdl.fit(program, *args, engine=engine, progress=False, **kwargs)


def agree(draws, expected):
    """Means of draws, shape (chain, draw, ...), are those expected, by their standard errors."""
    flat = np.asarray(draws, float).reshape(*draws.shape[:2], -1)
    for i, wanted in enumerate(np.ravel(expected)):
        one = flat[..., i]
        size = array_stats.ess(one, chain_axis=0, draw_axis=1, method="mean")
        # a probability near 0 may show no draw at all
        spread = max(one.std(), np.sqrt(np.clip(wanted * (1 - wanted), 0, None)), 1e-3)
        size = one.size if not np.isfinite(size) or np.ptp(one) == 0 else size
        assert abs(one.mean() - wanted) < FAR * spread / np.sqrt(size), (i, one.mean(), wanted)


def ising(field, coupling):
    """A chain of binary sites that attract each other, each a site by itself."""
    before = None
    for i in range(12):
        s = numpyro.sample(f"s{i}", dist.Bernoulli(0.5))
        numpyro.factor(f"f{i}", field[i] * s)
        if before is not None:
            numpyro.factor(f"c{i}", coupling * (2 * s - 1) * (2 * before - 1))
        before = s


def test_coupled_chain_of_binary_sites():
    """Against all 4096 states."""
    field = RNG.normal(size=12).astype(np.float32)
    post = fitted(ising, field, 0.5, draws=1500)
    states = np.array(list(np.ndindex(*(2,) * 12)))
    spins = 2 * states - 1
    weight = states @ field + 0.5 * (spins[:, 1:] * spins[:, :-1]).sum(1)
    weight = np.exp(weight - weight.max())
    exact = (weight[:, None] * states).sum(0) / weight.sum()
    draws = np.stack([post.samples[f"s{i}"] for i in range(12)], -1)
    agree(draws, exact)
    pairs = (weight[:, None] * states[:, 1:] * states[:, :-1]).sum(0) / weight.sum()
    agree(draws[..., 1:] * draws[..., :-1], pairs)
    table = post.discrete()
    assert np.isclose(table.probabilities["s3"][1], draws[..., 3].mean())
    assert post.diagnose().facts["rhat (worst)"] < 1.05


def mixture(y=None, n=10):
    w = numpyro.sample("w", dist.Beta(2, 2))
    with numpyro.plate("rows", n):
        # values 2 and 3, and a mark that NumPyro's kernels would sum over
        z = numpyro.sample("z", dist.DiscreteUniform(2, 3), infer={"enumerate": "parallel"})
        numpyro.factor("prior", jnp.where(z == 3, jnp.log(w), jnp.log1p(-w)))
        numpyro.deterministic("mean", jnp.array([0.0, 0.0, -1.0, 1.0])[z])
        numpyro.sample("y", dist.Normal(2.0 * z - 5, 1.0), obs=y)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"mixed": True, "trajectory_length": 1.5}, marks=pytest.mark.slow),
        pytest.param({"random_walk": True}, marks=pytest.mark.slow),
        pytest.param({"modified": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_mixture_of_values_that_do_not_begin_at_zero(settings):
    """Against the sum over z, on a grid of w."""
    y = np.r_[RNG.normal(-1, 1, 5), RNG.normal(1, 1, 5)].astype(np.float32)
    post = fitted(mixture, y=y, draws=600, **settings)
    w = np.linspace(0.0005, 0.9995, 1000)[:, None]
    late, early = w * stats.norm.pdf(y, 1, 1), (1 - w) * stats.norm.pdf(y, -1, 1)
    weight = stats.beta.pdf(w[:, 0], 2, 2) * np.prod(late + early, 1)
    weight /= weight.sum()
    agree(post.samples["w"], weight @ w)
    agree(post.samples["z"] - 2, weight @ (late / (late + early)))
    np.testing.assert_array_equal(post.samples["mean"], 2.0 * post.samples["z"] - 5)


def groups(group, y=None):
    """A discrete site of groups that rows index, which enumeration refuses."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    with numpyro.plate("groups", 3):
        z = numpyro.sample("z", dist.Bernoulli(0.4))
    with numpyro.plate("rows", len(group)):
        numpyro.sample("y", dist.Normal(mu + 2.0 * z[group], 1), obs=y)


def test_rows_that_index_groups(tmp_path):
    """Against brute force over 8 states, mu integrated out in closed form."""
    group = np.repeat(np.arange(3), 10)
    y = (np.array([0, 0, 2])[group] + RNG.normal(size=30)).astype(np.float32)
    post = fitted(groups, group, y=y, draws=1500)
    states = np.array(list(np.ndindex(2, 2, 2)))
    cover = 25 * np.ones((30, 30)) + np.eye(30)
    density = [stats.multivariate_normal.logpdf(y, 2.0 * s[group], cover) for s in states]
    weight = np.exp(density + (np.log([0.6, 0.4])[states]).sum(1))
    agree(post.samples["z"], weight @ states / weight.sum())
    # predictions, checks and files are those of draws
    expected = post.samples["mu"][..., None] + 2.0 * post.samples["z"][..., [0, 2]]
    np.testing.assert_allclose(
        post.predict(np.array([0, 2])).mean, expected.mean((0, 1)), rtol=1e-4
    )
    assert post.loo().ok and "z[2]" in post.summary().index
    back = bdl.load(post.save(tmp_path / "fit.bdl"), model=groups)
    shares = [one.discrete().probabilities["z"] for one in (back, post)]
    np.testing.assert_array_equal(*shares)
    more = bdl.mcmc.extend(back, 10, progress=False)
    assert more.samples["z"].shape == (2, 1510, 3)


def count(y=None):
    total = numpyro.sample("total", dist.Poisson(8.0))
    with numpyro.plate("visits", 4):
        numpyro.sample("y", dist.Binomial(total, probs=0.5), obs=y)


def test_counts_without_a_bound():
    y = np.array([3, 5, 4, 4])
    with pytest.raises(UnsupportedError, match=r"'total'.*infinitely many values.*largest=200"):
        fitted(count, y=y)
    with pytest.raises(UnsupportedError, match=r"'total'.*bdl.Gibbs\(largest"):
        bdl.fit(count, y=y, engine=bdl.NUTS(), progress=False)
    post = fitted(count, y=y, largest=40, draws=1000)
    values = np.arange(41)
    weight = stats.poisson.pmf(values, 8) * np.prod(stats.binom.pmf(y[:, None], values, 0.5), 0)
    agree(post.samples["total"], weight @ values / weight.sum())
    assert not any("left out" in line for line in post.diagnose().verdict)
    short = fitted(count, y=y, largest=9, draws=50)
    with pytest.warns(TrustWarning, match="'total' reach 9, above which values were left out"):
        short.diagnose()


def test_ranges():
    def program(y=None):
        p = 0.4
        with numpyro.plate("three", 3):
            numpyro.sample("b", dist.Binomial(np.array([3, 4, 5]), probs=p))
            numpyro.sample("u", dist.DiscreteUniform(np.array([1, 2, 3]), 9))
        numpyro.sample("e", dist.Bernoulli(p).expand([2]).to_event(1))
        numpyro.sample("y", dist.Normal(p, 1), obs=y)

    found = indexed(Problem(program, (1.0,))).ranges
    told = {name: (one.low, one.low + one.count - 1) for name, one in found.items()}
    assert told == {"b": (0, 5), "u": (1, 9), "e": (0, 1)}
    post = fitted(program, y=np.float32(1.0), draws=100)
    assert (post.samples["b"] <= [3, 4, 5]).all() and (post.samples["u"] >= [1, 2, 3]).all()
    assert post.samples["e"].shape == (2, 100, 2)

    def vector(y=None):
        m = numpyro.sample("m", dist.Multinomial(3, jnp.array([0.2, 0.8])))
        numpyro.sample("y", dist.Normal(m[0], 1), obs=y)

    with (
        jax.numpy_rank_promotion("allow"),
        pytest.raises(UnsupportedError, match="'m' is discrete, and its values are whole vectors"),
    ):
        fitted(vector, y=1.0)


def test_states_of_a_scan():
    """Against the sum over all paths; the values of a state are 1 and 2."""
    y = np.array([-1.0, 1.2, 0.9, -0.8], np.float32)

    def chain(y=None):
        def step(s, y):
            stay = jnp.where(s == 2, 0.8, 0.3)
            s = numpyro.sample("s", dist.DiscreteUniform(1, 2))
            numpyro.factor("move", jnp.log(jnp.where(s == 2, stay, 1 - stay)))
            numpyro.sample("y", dist.Normal(2.0 * s - 3, 1), obs=y)
            return s, None

        scan(step, 1, y)

    post = fitted(chain, y, draws=1000)
    paths = np.array(list(np.ndindex(2, 2, 2, 2)))
    before = np.concatenate([np.zeros((16, 1), int), paths[:, :-1]], 1)
    move = np.array([[0.7, 0.3], [0.2, 0.8]])[before, paths]
    weight = np.prod(move * stats.norm.pdf(y, 2.0 * paths - 1, 1), 1)
    agree(post.samples["s"] - 1, weight @ paths / weight.sum())


def test_auto_chooses_it_where_sites_cannot_be_summed():
    group = np.repeat(np.arange(3), 4)
    problem = Problem(groups, (group,), {"y": jnp.zeros(12)})
    engine, why = bdl.engines.choose(problem)
    assert isinstance(engine, bdl.Gibbs) and "cannot be summed" in why
    continuous = Problem(lambda: numpyro.sample("x", dist.Normal()), ())
    assert "this program has none" in bdl.Gibbs().supports(continuous)
