"""A second fit of the same data: the same doors, checks and numbers as the first."""

import logging

import numpy as np
import pytest

import bayesdl as bdl

X = np.linspace(-1, 1, 12)[:, None]
Y = np.sin(3 * X[:, 0])


@pytest.fixture(scope="module")
def post():
    return bdl.fit(bdl.GP(), X, Y, engine=bdl.ExactGP(), progress=False)


def test_an_engine_is_taken_by_name(post):
    again = post.refit("exact-gp", seed=3)
    assert (again.engine, again.seed) == (bdl.ExactGP(), 3)
    same = bdl.fit(bdl.GP(), X, Y, engine=bdl.ExactGP(), seed=3, progress=False)
    np.testing.assert_array_equal(again.predict(X).mean, same.predict(X).mean)


def test_auto_says_what_it_chose(post, caplog):
    with caplog.at_level(logging.INFO, logger="bayesdl"):
        assert type(post.refit("auto").engine) is bdl.ExactGP
    assert "engine: ExactGP, because" in caplog.text


@pytest.mark.parametrize("engine", ["message-passing", bdl.MessagePassing()])
def test_an_engine_that_cannot_run_the_model_is_refused(post, engine):
    message = r"MessagePassing cannot run this model: .* Engines that can: .*ExactGP"
    with pytest.raises(bdl.UnsupportedError, match=message):
        post.refit(engine)


def test_what_is_no_engine_is_refused(post):
    with pytest.raises(ValueError, match=r"expected an engine .* 'nuts'"):
        post.refit("nut")
    with pytest.raises(TypeError, match="got the class NUTS, expected an engine such as"):
        post.refit(bdl.NUTS)


def test_a_refit_is_the_fit(post):
    """Bit for bit, with an engine that draws."""
    engine = bdl.NUTS(num_warmup=20, num_samples=10, num_chains=1)
    first = bdl.fit(bdl.GP(), X, Y, engine=engine, seed=4, progress=False)
    again = post.refit(engine, seed=4)
    for name, value in first.samples.items():
        np.testing.assert_array_equal(again.samples[name], value)


def test_latent_sites_of_other_fits_have_their_own_cure(post):
    """Only of a trained network can it be to train it."""
    with pytest.raises(bdl.UnsupportedError, match=r"ExactGP has no .* such as bdl\.NUTS\(\)"):
        bdl.amortized.latent(post, next(iter(post.problem.latents)))
    drawn = bdl.fit(bdl.GP(), X, Y, engine=bdl.Laplace(), progress=False)
    with pytest.raises(bdl.UnsupportedError, match=r"draws of all sites are in post\.samples"):
        bdl.amortized.latent(drawn, next(iter(post.problem.latents)))
    with pytest.raises(bdl.UnsupportedError, match=r"no latent site of this name; expected one of"):
        bdl.amortized.latent(drawn, "sgima")
