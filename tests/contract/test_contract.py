"""The contract: each engine runs a problem, repeats and saves itself, or says why it cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract_checks import (
    check_round_trip,
    check_runs_or_says_why_not,
    check_settings_are_plain_data,
)
from toys import PROGRAMS

import bayesdl as bdl
from bayesdl.cli.support_table import problem_of
from bayesdl.engines import ENGINES, choose, engine_class
from bayesdl.model.examples import Example
from bayesdl.model.registry import registered_models
from inference.core.problem import Problem, ProblemError

# a problem of each model, as the model itself gives it, and two programs with data of other shapes
EXAMPLES = {
    model.__name__: model.examples()[0] for model in registered_models() if model.examples()
}
EXAMPLES |= {
    name: Example(name, program, data[:-1], {"y": data[-1]})
    for name, (program, data) in PROGRAMS.items()
}
# Engines that take any model run a small program, and NUTS each kind of data; refusals are cheap.
GENERAL = ("NUTS", "HMC", "MCLMC", "SGLD", "SGHMC", "CyclicalSGMCMC", "VI", "Laplace", "PyroNUTS")
QUICK = {("NUTS", "BNN"), ("NUTS", "entries")}
QUICK |= {(engine, "Program") for engine in ("NUTS", "SGHMC", "VI", "Laplace", "PyroNUTS")}
SLOW = {(engine, case) for engine in GENERAL for case in EXAMPLES} - QUICK | {("SSVI", "BNN")}
ALL = [
    pytest.param(engine, case, marks=[pytest.mark.slow] if (engine.__name__, case) in SLOW else [])
    for engine in ENGINES
    for case in EXAMPLES
]
NUTS = bdl.NUTS(num_warmup=30, num_samples=20, num_chains=2)
ROUND_TRIPS = {
    "BNN-NUTS": NUTS,
    "BNN-VI": bdl.VI(steps=200),
    "BNN-Laplace": bdl.Laplace(),
    "entries-NUTS": NUTS,
    "entries-VI": bdl.VI(guide="low-rank", steps=200),
    "sparse-NUTS": NUTS,
    "sparse-VI": bdl.VI(steps=200),
    "GP-ExactGP": bdl.ExactGP(),
    "FunBaT-MessagePassing": bdl.MessagePassing(iterations=20, restarts=2),
}


@pytest.mark.parametrize(
    ("engine", "case"), ALL, ids=lambda v: v if isinstance(v, str) else v.__name__
)
def test_runs_or_says_why_not(engine, case):
    check_runs_or_says_why_not(engine, EXAMPLES[case])


@pytest.mark.parametrize(
    "name",
    [
        n
        if n in ("BNN-NUTS", "GP-ExactGP", "FunBaT-MessagePassing")
        else pytest.param(n, marks=pytest.mark.slow)
        for n in ROUND_TRIPS
    ],
)
def test_bundle_round_trip(name, tmp_path):
    check_round_trip(ROUND_TRIPS[name], EXAMPLES[name.split("-")[0]], tmp_path / "fit.bdl")


@pytest.mark.parametrize("case", ["entries", pytest.param("BNN", marks=pytest.mark.slow)])
def test_minibatches_are_unbiased(case):
    """The mean over 4,000 batches of 5 rows is the log density of all rows: Monte Carlo, z < 4."""
    problem = problem_of(EXAMPLES[case])
    density = problem.log_density()
    u = density.ravel(
        {
            k: 0.3 * np.ones_like(v)
            for k, v in density.unravel(density.start(jax.random.key(0))).items()
        }
    )
    batched = problem.minibatch(5)
    draws = 4000
    from numpyro import handlers
    from numpyro.infer.util import potential_energy

    def one(key):
        return -potential_energy(
            handlers.seed(batched.program, key),
            batched.args,
            dict(batched.kwargs),
            density.unravel(u),
        )

    values = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), draws)))
    standard_error = values.std() / np.sqrt(draws)
    assert abs(values.mean() - density(u)) < 4 * standard_error
    assert values.std() > 0


@pytest.mark.parametrize("size", [None, 8])
def test_plates_with_a_subsample_size(size):
    """The engine decides how many rows a step sees; batches have the log density's mean."""
    import numpyro
    import numpyro.distributions as dist

    def program(x, y):
        m = numpyro.sample("m", dist.Normal(0, 1))
        with numpyro.plate("rows", len(x), subsample_size=size) as idx:
            numpyro.sample("y", dist.Normal(m * x[idx], 1), obs=y[idx])

    x = np.linspace(-1, 1, 20)
    problem = Problem(program, (jnp.asarray(x), jnp.asarray(2 * x)))
    exact = -0.5 * (0.3**2 + ((2 - 0.3) ** 2 * x**2).sum()) - 21 / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(problem.log_density()(np.array([0.3])), exact, rtol=1e-5)
    assert all(
        engine.supports(problem) is None
        for engine in (bdl.NUTS(), bdl.SGHMC(), bdl.SGHMC(batch_size=8), bdl.VI())
    )
    batches = problem.batch_log_density(4)(jnp.array([0.3]), jnp.arange(4))
    same = -0.5 * (0.3**2 + 5 * ((2 - 0.3) ** 2 * x[:4] ** 2).sum()) - 21 / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(batches, same, rtol=1e-5)


def test_minibatches_of_few_rows():
    """A step sees half of a batch twice, and no more rows than there are."""
    import numpyro
    import numpyro.distributions as dist

    def ignores_the_index(y):
        m = numpyro.sample("m", dist.Normal(0, 1))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(m, 1), obs=y)

    few = Problem(ignores_the_index, (np.zeros(20),))
    assert "20 rows in a minibatch of 10" in bdl.SGHMC(batch_size=32).supports(few)
    one = Problem(ignores_the_index, (np.zeros(1),))
    assert "has 1 row, which cannot be halved" in bdl.SGHMC().supports(one)


def test_minibatches_refused_without_a_plate():
    def no_plate(x, y=None):
        import numpyro
        import numpyro.distributions as dist

        numpyro.sample(
            "y",
            dist.Normal(numpyro.sample("m", dist.Normal(0, 1)), 1).expand([len(x)]).to_event(1),
            obs=y,
        )

    with pytest.raises(ProblemError, match="in two lines"):
        bdl.fit(no_plate, np.zeros(5), y=np.zeros(5), engine=bdl.VI(batch_size=2), progress=False)


def test_no_recompilation_between_blocks():
    """The program is traced a fixed number of times, however many draws are taken."""
    import numpyro
    import numpyro.distributions as dist

    traces = 0

    def program(y):
        nonlocal traces
        traces += 1
        numpyro.sample(
            "y",
            dist.Normal(numpyro.sample("m", dist.Normal(0, 1)), 1).expand([len(y)]).to_event(1),
            obs=y,
        )

    counts = []
    for num_samples in (60, 600):
        traces = 0
        bdl.fit(program, np.zeros(5), engine=bdl.NUTS(60, num_samples, 2), progress=False)
        counts.append(traces)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_settings_are_plain_data(engine):
    check_settings_are_plain_data(engine)


def test_engines_are_found_by_name():
    names = ("nuts", "NUTS", "exact-gp", "ExactGP", "exact_gp", "gpytorch", "message-passing")
    found = [engine_class(name).__name__ for name in names]
    expected = ["NUTS", "NUTS", "ExactGP", "ExactGP", "ExactGP", "GPyTorchGP", "MessagePassing"]
    assert found == expected
    post = bdl.fit(bdl.GP(), *bdl.GP.examples()[0].data, engine="Exact-GP", progress=False)
    assert post.engine == bdl.ExactGP()


@pytest.mark.parametrize(
    ("model", "rows", "chosen", "reason"),
    [
        (bdl.GP(), 50, bdl.ExactGP(), "a Gaussian process with 50 rows has a closed form"),
        (bdl.GP(), 3001, bdl.GPyTorchGP(method="svgp"), "3001 rows are too many"),
        # a kernel that GPyTorch lacks
        (bdl.GP(bdl.kernels.WideNetwork()), 3001, bdl.SparseGP(), "3001 rows are too many"),
        # nothing of size (rows, rows) is made on the way, which no machine could hold
        (bdl.GP(), 1_000_000, bdl.GPyTorchGP(method="svgp"), "1000000 rows are too many"),
        (bdl.BNN(hidden=(3,)), 50, bdl.NUTS(start="prior"), "50 rows and 11 latent dimensions are"),
        (bdl.BNN(), 300, bdl.Laplace(), "a network of 152 weights and 300 rows takes minutes"),
        (bdl.BNN(hidden=()), 300, bdl.NUTS(start="prior"), "3 latent dimensions are few enough"),
        (bdl.BNN(prior=bdl.priors.Laplace()), 300, bdl.NUTS(start="prior"), "are few enough"),
        (bdl.BNN(hidden=(3,)), 300_000, bdl.VI(), "are many for MCMC"),
    ],
)
def test_auto_takes_the_first_preference(model, rows, chosen, reason):
    X = np.linspace(-1, 1, rows)[:, None]
    problem = model.problem(model.learn_schema(X, X[:, 0]), X, X[:, 0])
    engine, why = choose(problem)
    assert engine == chosen
    assert reason in why


def test_auto_takes_message_passing_for_tensors():
    engine, why = choose(problem_of(EXAMPLES["FunBaT"]))
    assert (engine, why) == (bdl.MessagePassing(), "a functional tensor is what it is made for")
