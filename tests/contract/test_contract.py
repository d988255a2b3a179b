"""The contract: every engine that supports a toy problem runs it, repeats itself, saves itself and refuses the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import CASES, rows, tensor_rows

import bayesdl as bdl
from bayesdl.engines import ENGINES
from bayesdl.model.program import as_model
from inference.core.problem import Problem, ProblemError
from inference.core.result import Approximation, Draws, Predictor

FAST = {
    "NUTS": dict(num_warmup=60, num_samples=40, num_chains=2),
    "HMC": dict(num_warmup=60, num_samples=40, num_chains=2, num_steps=8),
    "MCLMC": dict(num_warmup=200, num_samples=40, num_chains=2),
    "SGLD": dict(num_warmup=100, num_samples=40, num_chains=2, thinning=2),
    "SGHMC": dict(num_warmup=100, num_samples=40, num_chains=2, thinning=2),
    "CyclicalSGMCMC": dict(num_warmup=100, num_samples=40, num_chains=2, thinning=2, num_cycles=4),
    "VI": dict(steps=400),
    "SSVI": dict(steps=200, density=0.5),
    "PyroNUTS": dict(num_warmup=15, num_samples=10, num_chains=1, max_tree_depth=4),
    "ExactGP": dict(num_restarts=1),
    "GPyTorchGP": dict(num_restarts=1),
    "MessagePassing": dict(iterations=20, restarts=2),
}
TENSOR = bdl.FunBaT(("i", "j"), relevance=False)
MODELS = CASES | {"process": (bdl.GP(), rows), "tensor": (TENSOR, tensor_rows)}
COSTLY = (
    "MCLMC",
    "SGLD",
    "CyclicalSGMCMC",
)  # they share their machinery with SGHMC, or compile for long
SLOW = {
    ("NUTS", "process"),
    ("HMC", "process"),
    ("VI", "process"),
    ("HMC", "sparse"),
    ("SGHMC", "sparse"),
    ("HMC", "entries"),
}
SLOW |= {(engine, "tensor") for engine in ("NUTS", "HMC", "SGHMC", "VI", "Laplace")} | {
    ("VI", "sparse"),
    ("SSVI", "rows"),
}
ALL = [
    pytest.param(
        engine,
        case,
        marks=[pytest.mark.slow]
        if engine.__name__ in COSTLY or (engine.__name__, case) in SLOW
        else [],
    )
    for engine in ENGINES
    for case in MODELS
]
SPECS = ("rows", "process", "tensor")  # the others are NumPyro functions
NUTS = bdl.NUTS(num_warmup=30, num_samples=20, num_chains=2)
ROUND_TRIPS = {
    "rows-NUTS": NUTS,
    "rows-VI": bdl.VI(steps=200),
    "rows-Laplace": bdl.Laplace(),
    "entries-NUTS": NUTS,
    "entries-VI": bdl.VI(guide="low-rank", steps=200),
    "sparse-NUTS": NUTS,
    "sparse-VI": bdl.VI(steps=200),
    "process-ExactGP": bdl.ExactGP(),
    "tensor-MessagePassing": bdl.MessagePassing(iterations=20, restarts=2),
}


def pose(case):
    model, make = MODELS[case]
    data = make()
    named = {} if case in SPECS else {"y": data[-1]}
    data = data if case in SPECS else data[:-1]
    spec = as_model(model)
    return model, data, named, spec.problem(spec.learn_schema(*data, **named), *data, **named)


def engine_of(cls):
    return cls(**FAST.get(cls.__name__, {}))


@pytest.mark.parametrize(
    ("cls", "case"), ALL, ids=lambda v: v if isinstance(v, str) else v.__name__
)
def test_runs_or_says_why_not(cls, case):
    model, data, named, problem = pose(case)
    engine = engine_of(cls)
    reason = engine.supports(problem)
    if reason is not None:
        with pytest.raises(
            bdl.UnsupportedError,
            match=f"{cls.__name__} cannot run this model: .*Engines that can: .*NUTS",
        ):
            bdl.fit(model, *data, **named, engine=engine, progress=False)
        return
    post = bdl.fit(model, *data, **named, engine=engine, progress=False, seed=3)
    assert isinstance(post.raw, Draws | Approximation | Predictor)
    again = bdl.fit(model, *data, **named, engine=engine, progress=False, seed=3)
    other = bdl.fit(model, *data, **named, engine=engine, progress=False, seed=4)
    for part in (lambda fit: fit.samples, lambda fit: fit.raw.arrays()):
        for name, value in part(post).items():
            np.testing.assert_array_equal(value, part(again)[name], err_msg=name)
    if post.samples:
        latent = next(iter(problem.latents))
        assert not np.array_equal(post.samples[latent], other.samples[latent])
        assert all(np.isfinite(value).all() for value in post.samples.values())
        assert set(problem.latents) <= set(post.samples)
    centre, same = (
        fit.predict().probs if case == "sparse" else fit.predict().mean for fit in (post, again)
    )
    assert len(centre) == data[0].shape[0]
    assert np.isfinite(centre).all()
    np.testing.assert_array_equal(centre, same)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if "entries" in n else n for n in ROUND_TRIPS]
)
def test_bundle_round_trip(name, tmp_path):
    case, engine = name.split("-")[0], ROUND_TRIPS[name]
    model, data, named, _ = pose(case)
    post = bdl.fit(model, *data, **named, engine=engine, progress=False)
    back = bdl.load(post.save(tmp_path / "fit.bdl"), model=None if case in SPECS else model)
    assert back.engine == engine
    for part in (lambda p: p.raw.arrays(), lambda p: p.samples):
        before, after = part(post), part(back)
        assert set(before) == set(after)
        for key, value in before.items():
            np.testing.assert_array_equal(value, after[key], err_msg=key)
    y = data[-1] if case in SPECS else named["y"]
    np.testing.assert_array_equal(post.predict().log_prob(y), back.predict().log_prob(y))


@pytest.mark.parametrize("case", ["rows", "entries"])
def test_minibatches_are_unbiased(case):
    """The mean of the rescaled log density over 4,000 random batches of 5 rows is that of all rows: Monte Carlo, z < 4."""
    _, _, _, problem = pose(case)
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
    """The engine decides how many rows a step sees: all of them give the program's log density, and batches its mean."""
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


def test_settings_are_plain_data():
    from bayesdl.saving.serialization import from_data, to_data

    for cls in ENGINES:
        engine = engine_of(cls)
        assert from_data(to_data(engine)) == engine
