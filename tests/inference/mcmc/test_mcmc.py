"""The chain runner: layouts, blocks and remainders."""

import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from arviz_stats.base import array_stats
from jax.extend.core import ClosedJaxpr
from toys import compilations, entries, product_program, tensor_program

import bayesdl as bdl
from bayesdl.model.program import as_model
from inference.core.problem import Problem, ProblemError
from inference.core.progress import Silent
from inference.mcmc.runner import sharing
from inference.mcmc.runner.blocks import BLOCK_BYTES, compile_block
from inference.mcmc.runner.chains import Run, refuse_diverged_chains
from inference.mcmc.runner.layout import Layout, choose_layout, is_key, place, reason_unsupported
from inference.mcmc.runner.sampler import AbstractSampler


@pytest.mark.slow
def test_steps_are_numpyros():
    """From the same start the draws are those of NumPyro's kernel stepped without any runner.

    Differently compiled programs round differently, and chaos amplifies it, so only a few steps are
    compared.
    """
    i, j, y = entries()
    engine = bdl.NUTS(num_warmup=4, num_samples=4, num_chains=2, chain_method="sequential")
    post = bdl.fit(tensor_program, i, j, y=y, engine=engine, seed=5, progress=False)
    sampler = engine.sampler(post.problem)
    states = Run(engine, sampler, 4).start(jax.random.key(5))
    drawn = []
    for number in range(8):
        states = jax.vmap(
            lambda state: sampler.kernel.sample(state, post.problem.args, dict(post.problem.kwargs))
        )(states)
        drawn += [states.z["a"]] if number >= 4 else []
    np.testing.assert_allclose(post.samples["a"], np.stack(drawn, 1), rtol=1e-3)


@pytest.mark.parametrize(
    "engine",
    [bdl.NUTS(70, 57, 2), pytest.param(bdl.SGHMC(70, 57, 2, thinning=3), marks=pytest.mark.slow)],
    ids=["NUTS", "SGHMC"],
)
def test_blocks_change_nothing(engine, monkeypatch):
    """However a run is cut into blocks, its draws are the same to the bit."""
    i, j, y = entries()
    one = bdl.fit(product_program, i, j, y=y, engine=engine, progress=False).raw.arrays()
    monkeypatch.setattr("inference.mcmc.runner.blocks.SHORTEST", 7)
    two = bdl.fit(product_program, i, j, y=y, engine=engine, progress=False).raw.arrays()
    assert set(one) == set(two)
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)
    assert one["samples/f"].shape == (2, 57, 60, 2)


@pytest.mark.slow
def test_thinning_keeps_every_third_draw():
    i, j, y = entries()
    full = bdl.fit(tensor_program, i, j, y=y, engine=bdl.NUTS(30, 30, 1), progress=False)
    thin = bdl.fit(
        tensor_program, i, j, y=y, engine=bdl.NUTS(30, 10, 1, thinning=3), progress=False
    )
    np.testing.assert_array_equal(full.samples["a"][:, 2::3], thin.samples["a"])


class Counting(AbstractSampler):
    """A chain whose state is the number of its steps; every fifth diverges."""

    def init(self, key):
        return jnp.zeros((), int)

    def step(self, i, state):
        return i + 1

    def record(self, state):
        return state, {"diverging": state % 5 == 0, "lp": -state}

    def constrain(self, position):
        return {"count": position}


def test_divergences_between_draws_are_seen():
    """Draw k comes after steps 3 k + 1, 3 k + 2 and 3 k + 3."""
    block = compile_block(
        lambda _: Counting(Problem(tensor_program), 0, thinning=3), Layout(1, False), 10
    )
    _, (position, stats) = block(jnp.zeros(1, int), (), 0, 10)
    np.testing.assert_array_equal(position[0], 3 * np.arange(1, 11))
    np.testing.assert_array_equal(stats["lp"][0], -position[0])
    expected = [any(step % 5 == 0 for step in (3 * k + 1, 3 * k + 2, 3 * k + 3)) for k in range(10)]
    np.testing.assert_array_equal(stats["diverging"][0], expected)


def problem_of(program):
    i, j, y = map(jnp.asarray, entries())
    return Problem(program, (i, j), {"y": y})


def test_microcanonical_chains_tune_for_as_long_as_asked_and_record_what_they_know():
    """Steps are counted in the traced function: the iterations of its loops over random keys."""
    expected = {"diverging", "lp"}
    for adjusted, kept in ((False, {"energy_error"}), (True, {"acceptance_rate", "n_steps"})):
        sampler = bdl.MCLMC(300, adjusted=adjusted).sampler(problem_of(tensor_program))
        assert scanned(jax.make_jaxpr(sampler.init)(jax.random.key(0))) == 300
        state = jax.eval_shape(sampler.init, jax.random.key(0))
        assert set(jax.eval_shape(sampler.record, state)[1]) == expected | kept


def scanned(traced):
    """Iterations of the outermost loops over random keys in a traced function."""
    total = 0
    for equation in traced.jaxpr.eqns:
        if equation.primitive.name == "scan":
            total += equation.params["length"] * any(is_key(var.aval) for var in equation.invars)
        else:
            total += sum(
                scanned(inner)
                for inner in equation.params.values()
                if isinstance(inner, ClosedJaxpr)
            )
    return total


@pytest.mark.slow
def test_chains_start_where_they_are_laid_out_and_start_again_elsewhere():
    """About half of all starts are refused; nothing is compiled twice by where the states lie."""

    def positive_only(i, j, y=None):
        a = numpyro.sample("a", dist.Normal(0, 1))
        numpyro.factor("positive", jnp.where(a > 0, 0.0, -jnp.inf))

    for chain_method in ("auto", "vectorized"):
        engine = bdl.NUTS(20, 20, 8, chain_method=chain_method)
        run = Run(engine, engine.sampler(problem_of(positive_only)), 20)
        states = run.start(jax.random.key(0))
        assert states.potential_energy.sharding.num_devices == 2
        assert np.isfinite(states.potential_energy).all()
        assert len(set(np.asarray(states.z["a"]).tolist())) == 8
    states, _ = run.advance(states, -20, 0)
    with compilations() as found:
        run.block(states, 0, 20)
    assert found == []


def test_blocks_are_short_where_much_is_kept():
    """A deterministic site of 1e5 entries, 4 chains: 1.6 MB a draw."""

    def large(i, j, y=None):
        a = numpyro.sample("a", dist.Normal(0, 1))
        numpyro.deterministic("large", a * jnp.ones(100_000))

    engine = bdl.NUTS(1000, 1000, 4)
    run = Run(engine, engine.sampler(problem_of(large)), 1000)
    assert run.length == BLOCK_BYTES // (4 * 100_000 * 4) - 1  # the site itself takes a little


def test_cures_of_divergence_are_those_of_the_engine():
    kept = {"stats/lp": np.full((2, 10), np.nan)}
    with pytest.raises(
        ProblemError, match=r"SGHMC diverged in every chain.*Lower step_size, or start nearer"
    ):
        refuse_diverged_chains(bdl.SGHMC(), kept)
    with pytest.raises(ProblemError, match=r"MCLMC diverged in every chain.*end\. Start nearer"):
        refuse_diverged_chains(bdl.MCLMC(), kept)


def test_layouts():
    assert jax.local_device_count() == 2
    assert choose_layout("auto", 4) == Layout(2, False)
    assert choose_layout("auto", 3) == Layout(1, False)
    assert choose_layout("vectorized", 4) == Layout(2, True)
    assert choose_layout("sequential", 4) == Layout(1, False)
    assert choose_layout("parallel", 2) == Layout(2, False)
    assert "num_chains=4 and 2 device" in reason_unsupported("parallel", 4)


@pytest.mark.slow
@pytest.mark.parametrize("chain_method", ["vectorized", "parallel"])
def test_layouts_agree_in_distribution(chain_method):
    """Every posterior mean within 4 combined Monte Carlo standard errors of sequential chains."""
    i, j, y = entries()
    num_chains = 4 if chain_method == "vectorized" else 2
    one = bdl.fit(
        tensor_program,
        i,
        j,
        y=y,
        engine=bdl.NUTS(300, 500, num_chains, chain_method=chain_method),
        progress=False,
    )
    two = bdl.fit(
        tensor_program,
        i,
        j,
        y=y,
        engine=bdl.NUTS(300, 500, 4, chain_method="sequential"),
        seed=1,
        progress=False,
    )
    for name, value in (
        ("sigma", lambda p: p.samples["sigma"]),
        ("f", lambda p: p.function_values(5)),
    ):
        a, b = value(one).astype(float), value(two).astype(float)
        errors = np.hypot(*(array_stats.mcse(s, chain_axis=0, draw_axis=1) for s in (a, b)))
        assert np.all(np.abs(a.mean((0, 1)) - b.mean((0, 1))) < 4 * errors), name


@pytest.mark.slow
def test_several_hosts_give_the_draws_of_one(tmp_path):
    """Every process gives all draws: two processes over loopback against one.

    There are two devices and two chains in all.
    """
    script = Path(__file__).parents[2] / "several_hosts.py"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start(number, count):
        return subprocess.Popen(
            [
                sys.executable,
                script,
                str(port),
                str(number),
                str(count),
                tmp_path / f"{number}-{count}.npz",
            ]
        )

    processes = [start(0, 1), start(0, 2), start(1, 2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    one, *two = (np.load(tmp_path / f"{name}.npz") for name in ("0-1", "0-2", "1-2"))
    for name in one.files:
        for part in two:
            np.testing.assert_array_equal(one[name], part[name], err_msg=name)


@pytest.mark.slow
def test_nuts_over_many_seeds():
    """Means of a conjugate line at 200 seeds are a standard normal sample.

    They are measured in Monte Carlo standard errors.
    """
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 30)
    y = 1 + 2 * x + 0.5 * rng.normal(size=30)

    def line(x, y=None):
        w = numpyro.sample("w", dist.Normal(0, 2).expand([2]).to_event(1))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Normal(w[0] + w[1] * x, 0.5), obs=y)

    X = np.c_[np.ones(30), x]
    mean = np.linalg.solve(X.T @ X / 0.25 + np.eye(2) / 4, X.T @ y / 0.25)
    model = as_model(line)
    engine = bdl.NUTS(500, 500, 4, chain_method="vectorized")
    sampler = engine.sampler(model.problem(model.learn_schema(x, y=y), x, y=y))
    run = Run(engine, sampler, 500)

    def z(seed):
        states = run.init_chains(place(jax.random.split(jax.random.key(seed), 4), run.layout))
        w = run.draws(states, -500, Silent(), None, None).samples["w"].astype(float)
        return (w.mean((0, 1)) - mean) / array_stats.mcse(w, chain_axis=0, draw_axis=1)

    scores = np.concatenate([z(seed) for seed in range(200)])
    assert abs(scores.mean()) < 4 / np.sqrt(scores.size)
    assert abs(scores.std() - 1) < 4 / np.sqrt(2 * scores.size)


PRIORS = {
    "Gaussian": [bdl.priors.Gaussian(0.5), bdl.priors.Gaussian(1.5)],
    "LayerGaussian": [
        bdl.priors.LayerGaussian((1.0, 2.0), (0.5, 1.0)),
        bdl.priors.LayerGaussian((2.0, 1.0), (1.5, 0.2)),
    ],
    "LayerHierarchical": [
        bdl.priors.LayerHierarchical((3.0, 4.0)),
        bdl.priors.LayerHierarchical((5.0, 2.0)),
    ],
}


SCALES = {"number": (0.2, 0.4), "tuple": ((0.2, 0.3), (0.4, 0.1)), "learned": (None, None)}


@pytest.mark.parametrize(
    ("priors", "scales"),
    [(PRIORS[a], SCALES[b]) for a, b in zip(PRIORS, SCALES, strict=True)],
    ids=list(PRIORS),
)
@pytest.mark.slow
def test_parameters_of_a_program_are_merged_again(priors, scales):
    """Programs that are equal but for their parameters are the same without them.

    With the parameters merged again they have the density that they had.
    """
    rng, parts = np.random.default_rng(0), []
    X, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    for prior, scale in zip(priors, scales, strict=True):
        target = y if isinstance(scale, tuple) else y[:, 0]
        model = bdl.BNN(hidden=(3,), prior=prior, likelihood=bdl.Normal(scale))
        problem = model.problem(model.learn_schema(X, target), X, target)
        program, numbers = problem.program.program.split_params()
        density, parts = problem.log_density(), [*parts, program]
        u = density.start(jax.random.key(0))

        def refilled(numbers, u, program=program, args=problem.args):
            return Problem(program.merge_params(numbers), args).log_density()(u)

        assert float(jax.jit(refilled)(numbers, u)) == pytest.approx(float(density(u)), rel=1e-5)
    assert parts[0] == parts[1]
    assert hash(parts[0]) == hash(parts[1])


def test_a_second_fit_of_equal_shapes_compiles_nothing_and_draws_the_same():
    """The second fit has other data, another prior and another noise scale.

    The oracle, to the bit, is the same fit made first.
    """
    engine = bdl.HMC(20, 20, 2, num_steps=3)

    def drawn(seed):
        prior = bdl.priors.LayerGaussian((1.0 + seed, 1.0), (0.5, 1.0))
        model = bdl.BNN(hidden=(3,), prior=prior, likelihood=bdl.Normal(0.3 + seed))
        X = np.random.default_rng(seed).normal(size=(20, 2))
        return bdl.fit(model, X, X[:, 0] + X[:, 1] ** 2, engine=engine, progress=False).raw.arrays()

    sharing.cached_compile.cache_clear()
    with compilations() as first:
        drawn(0)
    with compilations() as second:
        draws = drawn(1)
    assert len(first) > 2
    assert second == []
    sharing.cached_compile.cache_clear()
    for name, value in drawn(1).items():
        np.testing.assert_array_equal(draws[name], value, err_msg=name)
