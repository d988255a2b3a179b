"""Every estimator of every objective is unbiased, in value and gradient (z < 4)."""

import functools
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import cond, scan

from bayesdl.vi import (
    MVD,
    Enum,
    EstimatorError,
    Implicit,
    Reinforce,
    Reparam,
    dreg,
    elbo,
    expectation,
    iwelbo,
    renyi,
    thermodynamic,
)

DRAWS = 20_000
KEY = jax.random.key(0)
Y = 1.5


def z_scores(E, params, exact, *args):
    """z of the mean gradient against the exact one, for each parameter."""
    one = jax.value_and_grad(lambda p, key: E(key, p, *args))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*without a baseline")
        _, gradients = jax.jit(jax.vmap(one, (None, 0)))(
            params, jax.random.split(jax.random.key(1), DRAWS)
        )
    scores = {}
    for name, g in gradients.items():
        g, expected = (
            np.asarray(g, float).reshape(DRAWS, -1),
            np.asarray(exact[name], float).ravel(),
        )
        error = np.maximum(g.std(0) / np.sqrt(DRAWS), 1e-6 * (1 + np.abs(expected)))
        scores[name] = np.max(np.abs(g.mean(0) - expected) / error)
    return scores


def squared(p, q):
    """Not linear in anything: the square of the sum of all draws."""
    z, _ = q.sim()
    return sum(jnp.sum(value) for value in z.values()) ** 2.0


OBJECTIVES = {
    "elbo": elbo,
    "iwelbo 2": functools.partial(iwelbo, K=2),
    "iwelbo 3": functools.partial(iwelbo, K=3),
    "square": squared,
}

# one discrete site ----------------------------------------------------------------------------


def flip_model(y):
    z = numpyro.sample("z", dist.Bernoulli(0.3))
    numpyro.sample("y", dist.Normal(2.0 * z, 1.0), obs=y)


def flip_guide(y):
    numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("phi", 0.4)))


def three_model(y):
    z = numpyro.sample("z", dist.Categorical(jnp.array([0.2, 0.3, 0.5])))
    numpyro.sample("y", dist.Normal(jnp.array([0.0, 1.0, 3.0])[z], 1.0), obs=y)


def three_guide(y):
    numpyro.sample("z", dist.Categorical(logits=numpyro.param("phi", jnp.array([0.3, -0.2, 0.1]))))


DISCRETE = {
    "flip": (flip_model, flip_guide, {"phi": 0.4}),
    "three": (three_model, three_guide, {"phi": jnp.array([0.3, -0.2, 0.1])}),
}
FINITE = {
    "Enum": Enum(),
    "MVD": MVD(),
    "Reinforce(None)": Reinforce(None),
    "Reinforce(-1)": Reinforce(-1.0),
    "Reinforce(loo)": Reinforce("loo"),
}


@functools.cache
def exact_discrete(program, objective):
    """By hand: the sum over all values of the K draws."""
    model, _, params = DISCRETE[program]
    K = {"iwelbo 2": 2, "iwelbo 3": 3}.get(objective, 1)
    states = 2 if program == "flip" else 3

    def log_joint(z):
        trace = numpyro.handlers.trace(numpyro.handlers.substitute(model, data={"z": z})).get_trace(
            Y
        )
        return sum(
            site["fn"].log_prob(site["value"])
            for site in trace.values()
            if site["type"] == "sample"
        )

    def value(params):
        logits = (
            params["phi"] if program == "three" else jnp.stack([0.0 * params["phi"], params["phi"]])
        )
        log_q = jax.nn.log_softmax(logits)
        total = 0.0
        for draws in itertools.product(range(states), repeat=K):
            log_w = jnp.stack([log_joint(jnp.array(z)) - log_q[z] for z in draws])
            k = {"elbo": log_w[0], "square": float(draws[0] ** 2)}.get(
                objective, jax.nn.logsumexp(log_w) - np.log(K)
            )
            total += jnp.exp(sum(log_q[z] for z in draws)) * k
        return total

    return jax.jit(jax.value_and_grad(value))(params)


def costly(names, quick):
    """All of them; only the quick ones in every run, as each compiles its own program."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in names]


@pytest.mark.parametrize("objective", costly(OBJECTIVES, ["iwelbo 2"]))
@pytest.mark.parametrize("program", costly(DISCRETE, ["flip"]))
@pytest.mark.parametrize("estimator", FINITE)
def test_discrete_sites(program, estimator, objective):
    model, guide, params = DISCRETE[program]
    value, exact = exact_discrete(program, objective)
    E = expectation(OBJECTIVES[objective], model, guide, estimators={"z": FINITE[estimator]})
    if estimator == "Enum":
        found, gradient = jax.jit(jax.value_and_grad(lambda p: E(KEY, p, Y)))(params)
        np.testing.assert_allclose(found, value, atol=1e-5)
        np.testing.assert_allclose(gradient["phi"], exact["phi"], atol=1e-5)
    else:
        assert z_scores(E, params, exact, Y)["phi"] < 4


# one continuous site --------------------------------------------------------------------------


def normal_model(y):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(z, 0.8), obs=y)


def normal_guide(y):
    numpyro.sample("z", dist.Normal(numpyro.param("loc", 0.3), numpyro.param("scale", 1.2)))


NORMAL = {"loc": 0.3, "scale": 1.2}
CONTINUOUS = {
    "Reparam": Reparam(),
    "Reparam(stick)": Reparam(stick=True),
    "MVD": MVD(),
    "Implicit": Implicit(),
    "Reinforce(None)": Reinforce(None),
    "Reinforce(loo)": Reinforce("loo"),
}


def quadrature(value_of_draws, K):
    """The mean over K standard normal draws, by a Gauss-Hermite product rule."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    grid = np.stack(np.meshgrid(*[nodes] * K, indexing="ij"), -1).reshape(-1, K)
    mass = np.prod(
        np.stack(np.meshgrid(*[weights / weights.sum()] * K, indexing="ij"), -1).reshape(-1, K), -1
    )
    return mass @ jax.vmap(value_of_draws)(jnp.asarray(grid))


@functools.cache
def exact_normal(objective):
    K = {"iwelbo 2": 2, "iwelbo 3": 3}.get(objective, 1)

    def value(params):
        def one(noise):
            z = params["loc"] + params["scale"] * noise
            log_w = dist.Normal(0, 1).log_prob(z) + dist.Normal(z, 0.8).log_prob(Y)
            log_w -= dist.Normal(params["loc"], params["scale"]).log_prob(z)
            return {"elbo": log_w[0], "square": z[0] ** 2}.get(
                objective, jax.nn.logsumexp(log_w) - np.log(K)
            )

        return quadrature(one, K)

    return jax.jit(jax.grad(value))(NORMAL)


@pytest.mark.parametrize("objective", costly(OBJECTIVES, ["iwelbo 2"]))
@pytest.mark.parametrize("estimator", CONTINUOUS)
def test_a_normal_site(estimator, objective):
    E = expectation(
        OBJECTIVES[objective], normal_model, normal_guide, estimators={"z": CONTINUOUS[estimator]}
    )
    assert max(z_scores(E, NORMAL, exact_normal(objective), Y).values()) < 4


def test_other_objectives():
    """Renyi and thermodynamic bounds and the doubly reparametrised gradient, on the normal site."""

    def weights(params, noise):
        z = params["loc"] + params["scale"] * noise
        log_w = dist.Normal(0, 1).log_prob(z) + dist.Normal(z, 0.8).log_prob(Y)
        return log_w - dist.Normal(params["loc"], params["scale"]).log_prob(z)

    def bound(log_w):
        beta = jnp.arange(3) / 3
        return jnp.mean(jnp.sum(jax.nn.softmax(beta[:, None] * log_w[None], -1) * log_w[None], -1))

    exact = {
        "renyi": lambda log_w: (jax.nn.logsumexp(0.4 * log_w) - np.log(2)) / 0.4,
        "thermodynamic": bound,
        "dreg": lambda log_w: jax.nn.logsumexp(log_w) - np.log(2),
    }
    given = {
        "renyi": renyi(0.6, K=2),
        "thermodynamic": thermodynamic(K=2, partitions=3),
        "dreg": dreg(K=2),
    }
    for name, function in exact.items():
        gradient = jax.jit(
            jax.grad(lambda p, f=function: quadrature(lambda noise: f(weights(p, noise)), 2))
        )(NORMAL)
        E = expectation(given[name], normal_model, normal_guide)
        assert max(z_scores(E, NORMAL, gradient, Y).values()) < 4, name


LAWS = {
    "poisson": (
        lambda p: dist.Poisson(p["a"]),
        {"a": 2.5},
        (MVD(), Reinforce(None)),
        lambda p: p["a"] + p["a"] ** 2,
    ),
    "gamma": (
        lambda p: dist.Gamma(p["a"], p["b"]),
        {"a": 2.0, "b": 1.5},
        (MVD(), Implicit(), Reparam(), Reinforce(None)),
        lambda p: p["a"] / p["b"] ** 2 + (p["a"] / p["b"]) ** 2,
    ),
    "kumaraswamy": (
        lambda p: dist.Kumaraswamy(p["a"], p["b"]),
        {"a": 2.0, "b": 1.5},
        (Implicit(), Reinforce(None)),
        lambda p: (
            p["b"]
            * jnp.exp(
                sum(jax.scipy.special.gammaln(jnp.array([1 + 2 / p["a"], p["b"]])))
                - jax.scipy.special.gammaln(1 + 2 / p["a"] + p["b"])
            )
        ),
    ),
    # it has no differentiable sampler, so the derivative is that of its distribution function
    "mixture": (
        lambda p: dist.MixtureSameFamily(
            dist.Categorical(probs=jnp.array([0.3, 0.7])),
            dist.Normal(jnp.stack([p["a"], p["b"]]), jnp.array([0.5, 1.0])),
        ),
        {"a": -1.0, "b": 2.0},
        (Implicit(), Reinforce(None)),
        lambda p: 0.3 * (p["a"] ** 2 + 0.25) + 0.7 * (p["b"] ** 2 + 1.0),
    ),
}


@pytest.mark.parametrize("law", costly(LAWS, ["poisson", "mixture"]))
def test_other_laws(law):
    """The second moment of laws that have a closed form."""
    make, params, estimators, moment = LAWS[law]

    def guide():
        numpyro.sample(
            "z", make({name: numpyro.param(name, value) for name, value in params.items()})
        )

    for estimator in estimators:
        E = expectation(squared, lambda: None, guide, estimators={"z": estimator})
        assert max(z_scores(E, params, jax.grad(moment)(params)).values()) < 4, estimator


# two sites, all ordered pairs -----------------------------------------------------------------

PAIR = {"a": 0.3, "b": -0.4, "c": 0.5}
PAIRS = {
    "Enum": Enum(),
    "MVD": MVD(),
    "Reinforce": Reinforce(0.5),
    "Reparam": Reparam(),
    "Implicit": Implicit(),
}


def chain_guide(first, second):
    """Two sites, the second depending on the first.

    They are flips, or normals if the estimator is pathwise.
    """

    def guide():
        a, b, c = (numpyro.param(name, value) for name, value in PAIR.items())
        pathwise = (Reparam, Implicit)
        u = numpyro.sample(
            "u", dist.Normal(a, 1.0) if isinstance(first, pathwise) else dist.Bernoulli(logits=a)
        )
        eta = b + c * u
        numpyro.sample(
            "v",
            dist.Normal(eta, 0.7) if isinstance(second, pathwise) else dist.Bernoulli(logits=eta),
        )

    return guide


def chain_objective(p, q):
    z, log_q = q.sim()
    return (1.0 + z["u"] + 2.0 * z["v"] * z["u"] - 0.5 * z["v"]) ** 2 / 2 - 0.3 * log_q


def exact_chain(first, second):
    """The same by sums over flips and quadrature over normals."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)

    def values(kind, eta, scale):
        if isinstance(kind, Reparam | Implicit):
            points = eta + scale * jnp.asarray(nodes)
            return (
                points,
                jnp.asarray(weights / weights.sum()),
                dist.Normal(eta, scale).log_prob(points),
            )
        points = jnp.arange(2.0)
        log_q = dist.Bernoulli(logits=eta).log_prob(points)
        return points, jnp.exp(log_q), log_q

    def value(p):
        u, mass, log_u = values(first, p["a"], 1.0)

        def given(u, log_u):
            v, mass, log_v = values(second, p["b"] + p["c"] * u, 0.7)
            return mass @ ((1.0 + u + 2.0 * v * u - 0.5 * v) ** 2 / 2 - 0.3 * (log_u + log_v))

        return mass @ jax.vmap(given)(u, log_u)

    return jax.jit(jax.grad(value))(PAIR)


@pytest.mark.parametrize("second", costly(PAIRS, ["Enum", "MVD"]))
@pytest.mark.parametrize("first", costly(PAIRS, ["MVD", "Reparam"]))
def test_ordered_pairs(first, second):
    first, second = PAIRS[first], PAIRS[second]
    E = expectation(
        chain_objective,
        lambda: None,
        chain_guide(first, second),
        estimators={"u": first, "v": second},
    )
    assert max(z_scores(E, PAIR, exact_chain(first, second)).values()) < 4


def test_a_plate_of_flips():
    """A site of three elements: E[S^2] and its exact derivative."""

    def guide():
        with numpyro.plate("three", 3):
            numpyro.sample("z", dist.Bernoulli(numpyro.param("probs", jnp.array([0.2, 0.5, 0.7]))))

    params = {"probs": jnp.array([0.2, 0.5, 0.7])}
    exact = jax.grad(lambda p: jnp.sum(p["probs"] * (1 - p["probs"])) + jnp.sum(p["probs"]) ** 2)(
        params
    )
    for estimator in (Enum(), MVD(), Reinforce(2.0)):
        E = expectation(squared, lambda: None, guide, estimators={"z": estimator})
        assert z_scores(E, params, exact)["probs"] < 4


# control flow: handled, or refused ------------------------------------------------------------


def scan_guide():
    a = numpyro.param("a", 0.3)

    def body(carry, _):
        x = numpyro.sample("x", dist.Bernoulli(logits=a + carry))
        return 0.5 * x, x

    scan(body, 0.0, None, length=3)


def normal_scan_guide():
    a = numpyro.param("a", 0.3)

    def body(carry, _):
        x = numpyro.sample("x", dist.Normal(a + carry, 1.0))
        return 0.5 * x, x

    scan(body, 0.0, None, length=3)


def cond_guide():
    a = numpyro.param("a", 0.3)
    flag = numpyro.sample("flag", dist.Bernoulli(logits=a))
    cond(
        flag > 0,
        lambda _: numpyro.sample("x", dist.Bernoulli(logits=a)),
        lambda _: numpyro.sample("x", dist.Bernoulli(logits=-2 * a)),
        None,
    )


def vmap_guide():
    a = numpyro.param("a", 0.3)
    jax.vmap(lambda shift: numpyro.sample("x", dist.Bernoulli(logits=a + shift)))(jnp.arange(3.0))


def jit_guide():
    a = numpyro.param("a", 0.3)
    jax.jit(lambda a: numpyro.sample("x", dist.Bernoulli(logits=a)))(a)


def lax_scan_guide():
    a = numpyro.param("a", 0.3)
    jax.lax.scan(
        lambda c, _: (c + numpyro.sample("x", dist.Normal(a + c, 1.0)), None), 0.0, None, length=3
    )


def exact_scan(p):
    total = 0.0
    for path in itertools.product((0, 1), repeat=3):
        log_q, carry = 0.0, 0.0
        for x in path:
            log_q, carry = log_q + dist.Bernoulli(logits=p["a"] + carry).log_prob(x), 0.5 * x
        total += jnp.exp(log_q) * sum(path) ** 2
    return total


def exact_cond(p):
    on, first, second = jax.nn.sigmoid(p["a"]), jax.nn.sigmoid(p["a"]), jax.nn.sigmoid(-2 * p["a"])
    return on * (first * 4 + (1 - first)) + (1 - on) * second


def exact_normal_scan(p):
    mean, loading = p["a"] * (1 + 1.5 + 1.75), np.array([1 + 0.5 + 0.25, 1 + 0.5, 1.0])
    return mean**2 + (loading**2).sum()


HANDLED = {
    "scan, Reinforce": (scan_guide, exact_scan, {"x": Reinforce(2.0)}),
    "scan, default": (scan_guide, exact_scan, {}),
    "scan, Reparam": (normal_scan_guide, exact_normal_scan, {"x": Reparam()}),
    "scan, Reinforce of normals": (normal_scan_guide, exact_normal_scan, {"x": Reinforce(None)}),
    "cond, Reinforce": (cond_guide, exact_cond, {"x": Reinforce(1.0), "flag": Reinforce(1.0)}),
    "cond, Enum outside": (cond_guide, exact_cond, {"x": Reinforce(1.0), "flag": Enum()}),
    "cond, MVD outside": (cond_guide, exact_cond, {"x": Reinforce(1.0), "flag": MVD()}),
}


@pytest.mark.parametrize("case", costly(HANDLED, ["scan, Reinforce", "cond, MVD outside"]))
def test_control_flow_that_is_handled(case):
    guide, exact, estimators = HANDLED[case]
    E = expectation(squared, lambda: None, guide, estimators=estimators)
    assert z_scores(E, {"a": 0.3}, jax.grad(exact)({"a": 0.3}))["a"] < 4


@pytest.mark.parametrize("estimator", [Enum(), MVD()], ids=["Enum", "MVD"])
@pytest.mark.parametrize("guide", [scan_guide, cond_guide])
def test_control_flow_that_is_refused(guide, estimator):
    E = expectation(squared, lambda: None, guide, estimators={"x": estimator})
    with pytest.raises(EstimatorError, match="inside scan or cond"):
        jax.grad(lambda p: E(KEY, p))({"a": 0.3})


def test_parameters_inside_control_flow_are_refused():
    def guide():
        scan(
            lambda c, _: (c, numpyro.sample("x", dist.Normal(numpyro.param("a", 0.3), 1.0))),
            0.0,
            None,
            length=3,
        )

    with pytest.raises(EstimatorError, match=r"move its numpyro\.param statement before the loop"):
        expectation(squared, lambda: None, guide).init(KEY)


@pytest.mark.parametrize(
    "estimator", [Enum(), MVD(), Reinforce(1.0), None], ids=["Enum", "MVD", "Reinforce", "default"]
)
@pytest.mark.parametrize("guide", [vmap_guide, jit_guide, lax_scan_guide])
@pytest.mark.parametrize("objective", costly(["square", "elbo"], ["elbo"]))
def test_draws_that_cannot_be_seen_are_refused(guide, estimator, objective):
    """Raw jit, vmap and lax.scan around a sample statement: never a silent zero."""
    if guide is lax_scan_guide and isinstance(estimator, Enum):
        estimator = Reparam()  # a normal site
    E = expectation(
        OBJECTIVES[objective], lambda: None, guide, estimators={"x": estimator} if estimator else {}
    )
    for _ in range(2):  # a second time: nothing may hide in a cache
        with pytest.raises(EstimatorError, match=r"inside jax\.jit"):
            jax.grad(lambda p: E(KEY, p))({"a": 0.3})
