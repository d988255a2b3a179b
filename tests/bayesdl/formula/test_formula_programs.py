"""The fitted program against the one that is printed, and the columns against other libraries."""

import jax
import numpy as np
import pytest
from formula_toys import CATALOGUE, table
from numpyro.infer.util import log_density

from bayesdl.model.precision import precision_scope

QUICK = ("slopes", "smooth", "monotone", "zeros by x", "weibull", "ordered", "binomial")
EACH = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in CATALOGUE]


@pytest.mark.parametrize("kind", EACH)
def test_the_printed_program_has_the_fitted_log_density(kind):
    """At 20 random points: unconstrained values of the fitted program, uniform on (-1, 1)."""
    check_densities(CATALOGUE[kind], None)


@pytest.mark.parametrize("weights", ["z", "n"])
def test_the_printed_program_takes_weights(weights):
    """Numbers of any kind scale the densities of rows, whole ones repeat rows."""
    check_densities(CATALOGUE["nothing but a mean"], weights)


def check_densities(model, weights):
    data, printed = table(), {}
    exec(model.source(data, weights), printed)
    # what is printed asks for double precision, for good
    jax.config.update("jax_enable_x64", False)
    schema = model.learn_schema(data, weights=weights)
    with precision_scope(model):
        problem = model.problem(schema, data, weights=weights)
        density, arrays = problem.log_density(), model.arrays(data, weights)
        size = len(density.ravel(density.prior_draw(jax.random.key(0))))
        points = np.random.default_rng(0).uniform(-1, 1, size=(20, size))
        # NumPyro's survival functions lose their digits in the tail
        censored = "cens" in model.formula
        points, digits = (0.3 * points, 1e-4) if censored else (points, 1e-9)

        @jax.jit
        def both(u):
            sites = density.constrain(u)
            latents = {name: sites[name] for name in problem.latents}
            ours = log_density(problem.program, problem.args, problem.kwargs, latents)[0]
            # what is printed is plain JAX, which broadcasts
            with jax.numpy_rank_promotion("allow"):
                return ours, log_density(printed["program"], (), arrays, latents)[0]

        for u in points:
            ours, theirs = both(u)
            assert np.isfinite(ours)
            np.testing.assert_allclose(ours, theirs, rtol=digits)


@pytest.mark.parametrize("kind", ["straight line", pytest.param("smooth", marks=pytest.mark.slow)])
def test_units_change_the_space_of_samplers_and_not_the_posterior(kind):
    """The density at u is that of the sites times |dz/du|, by differentiation."""
    model, data = CATALOGUE[kind], table()
    with precision_scope(model):
        problem = model.problem(model.learn_schema(data), data)
        density = problem.log_density()
        u = density.ravel(density.prior_draw(jax.random.key(1)))

        def flat(u):
            sites = density.constrain(u)
            return jax.numpy.concatenate([sites[name].ravel() for name in problem.latents])

        log_det = np.linalg.slogdet(np.asarray(jax.jit(jax.jacobian(flat))(u)))[1]
        latents = {name: density.constrain(u)[name] for name in problem.latents}
        plain = log_density(problem.program, problem.args, {}, latents)[0]
        np.testing.assert_allclose(density(u), plain + log_det, rtol=1e-9)
