"""Ctrl-C and the end of the time: engines give what they have so far, and say so."""

import itertools
import types

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdl as bdl
from bayesdl import recommend
from bayesdl.recommend.autoencoder import base as autoencoder
from bayesdl.warnings import TrustWarning
from inference.core import progress
from inference.core.progress import AbstractProgress

rng = np.random.default_rng(0)
X = rng.normal(size=(20, 2))
Y = X[:, 0] + 0.1 * rng.normal(size=20)


def line(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


class CtrlC(AbstractProgress):
    """A progress at whose so many-th report the user presses Ctrl-C."""

    def __init__(self, report):
        self.left = report

    def note(self, message):
        pass

    def start(self, total, label):
        pass

    def advance(self, steps, **facts):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def close(self):
        pass


KINDS = {
    "vi": (line, bdl.VI(steps=2000)),
    "gp": (bdl.GP(), bdl.ExactGP(num_restarts=5)),
    "messages": (
        bdl.FunBaT(("i", "j"), relevance=False),
        bdl.MessagePassing(iterations=200, restarts=1, tolerance=1e-12),
    ),
    "laplace": (bdl.BNN(hidden=(4,)), bdl.Laplace(tolerance=1e-9)),
    "ssvi": (bdl.BNN(hidden=(8,)), bdl.SSVI(density=0.5, steps=400, every=50, batch_size=20)),
}


def fit(kind, **settings):
    model, engine = KINDS[kind]
    data = ((X,), {"y": Y}) if model is line else ((X, Y), {})
    return bdl.fit(model, *data[0], engine=engine, **data[1], **settings)


@pytest.mark.filterwarnings("ignore:VI is not done")
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.quick_cases(2)
def test_what_there_is_at_ctrl_c_is_a_posterior(kind, tmp_path):
    with pytest.warns(TrustWarning, match=r"interrupted after \d+ of \d+ steps"):
        post = fit(kind, progress=CtrlC(2))
    assert "of" in post.raw.info["interrupted"]
    mean = post.predict(X[:3]).mean
    assert np.isfinite(mean).all()
    again = bdl.load(post.save(tmp_path / "a.bdl"), *([line] if kind == "vi" else []))
    np.testing.assert_array_equal(again.predict(X[:3]).mean, mean)
    assert again.raw.info["interrupted"] == post.raw.info["interrupted"]


@pytest.mark.filterwarnings("ignore:VI is not done")
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.quick_cases(1)
def test_a_fit_ends_when_its_time_is_over(kind):
    with pytest.warns(TrustWarning, match="interrupted after"):
        post = fit(kind, progress=False, seconds=1e-6)
    assert np.isfinite(post.predict(X[:3]).mean).all()


def test_chains_end_with_the_draws_so_far_and_warm_up_gives_none(monkeypatch):
    # a clock that goes on by a second whenever it is read
    clock = types.SimpleNamespace(monotonic=itertools.count().__next__)
    monkeypatch.setattr(progress, "time", clock)
    engine = bdl.NUTS(num_warmup=10, num_samples=200_000, num_chains=1)
    post = bdl.fit(line, X, y=Y, engine=engine, seconds=3, progress=False)
    made, wanted = map(int, post.raw.info["interrupted"].split()[::2][:2])
    assert 0 < made < wanted == 200_000 and post.samples["w"].shape[1] == made
    engine = bdl.NUTS(num_warmup=200_000, num_samples=10, num_chains=1)
    with pytest.raises(TimeoutError, match="NUTS has no answer after"):
        bdl.fit(line, X, y=Y, engine=engine, seconds=1e-3, progress=False)


def test_a_program_may_have_seconds_of_its_own():
    def program(seconds):
        m = numpyro.sample("m", dist.Normal(0, 10))
        numpyro.sample("y", dist.Normal(m, 1).expand([20]).to_event(1), obs=seconds)

    post = bdl.fit(program, seconds=Y, engine=bdl.VI(steps=50), progress=False)
    assert "interrupted" not in post.raw.info


@pytest.mark.parametrize("seconds", [0, -1, "x", True, np.nan])
def test_times_that_are_none_are_refused(seconds):
    with pytest.raises(ValueError, match="expected a positive number"):
        bdl.fit(bdl.GP(), X, Y, seconds=seconds)


def test_a_recommender_keeps_what_it_has_learned(monkeypatch):
    monkeypatch.setattr(autoencoder, "Bar", lambda: CtrlC(3))
    rows = rng.integers(0, 2, (30, 8))
    model = recommend.MultVAE(hidden=(4,), latent=2, epochs=20, progress=True)
    with pytest.warns(UserWarning, match="interrupted after 3 of 20 epochs"):
        model.fit(rows)
    assert len(model.history_) == 3 and model.recommend(rows[:2], k=2).items.shape == (2, 2)
