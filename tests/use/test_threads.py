"""Fits, predictions, scores, checks and files in many threads at once, as in one thread."""

import sys
import threading
import warnings

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesdl as bdl

rng = np.random.default_rng(0)
X = rng.normal(size=(20, 2))
Y = X[:, 0] - 0.5 * X[:, 1] + 0.1 * rng.normal(size=20)
PLACES = rng.uniform(size=(20, 2))


def line(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def mixture(x, y=None):
    m = numpyro.sample("m", dist.Normal(0, 2).expand([2]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        z = numpyro.sample("z", dist.Categorical(logits=np.zeros(2)))
        numpyro.sample("y", dist.Normal(m[z], 0.5), obs=y)


def kinds():
    """Models with their data and engines, by name."""
    short = {"num_warmup": 20, "num_samples": 20}
    return {
        "laplace": (bdl.BNN(hidden=(4,)), X, bdl.Laplace()),
        "nuts": (line, X, bdl.NUTS(num_chains=2, **short)),
        "gp": (bdl.GP(), X, bdl.ExactGP(num_restarts=1)),
        "vi": (line, X, bdl.VI(steps=30)),
        "mixture": (mixture, X, bdl.NUTS(num_chains=1, **short)),
        "tensor": (
            bdl.FunBaT(("i", "j"), relevance=False),
            PLACES,
            bdl.MessagePassing(iterations=10, restarts=1),
        ),
    }


def work(kind, path, checks):
    """Use all of a fit, and return its numbers."""
    model, inputs, engine = kinds()[kind]
    code = (model,) if callable(model) and not hasattr(model, "examples") else ()
    data = ((inputs,), {"y": Y}) if code else ((inputs, Y), {})
    post = bdl.fit(model, *data[0], engine=engine, seed=1, progress=False, **data[1])
    post.save(path)
    loaded = bdl.load(path, *code)
    found = [one.predict(inputs[:7]).mean for one in (post, loaded)]
    if checks:
        facts = {k: v for k, v in post.diagnose().facts.items() if "seconds" not in k}
        found += [
            post.predict(inputs[:7]).quantile(0.9),
            post.predict(inputs[:7]).sample(3),
            sorted(post.score(*data[0], **data[1]).items()),
            sorted(facts.items()),
        ]
    return [repr(np.asarray(part).tolist()) for part in found]


def in_threads(names, folder, checks):
    """Do the work of each name in a thread of its own, all at once."""
    found: dict[int, object] = {}

    def one(number, kind):
        try:
            found[number] = work(kind, folder / f"{number}.bdl", checks)
        except Exception as error:
            found[number] = error

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=one, args=each) for each in enumerate(names)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    return found


def check(names, folder, checks=False):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            kind: work(kind, folder / f"{kind}.bdl", checks) for kind in dict.fromkeys(names)
        }
        filters = list(warnings.filters)
        found = in_threads(names, folder, checks)
        assert list(warnings.filters) == filters
    for number, kind in enumerate(names):
        assert found[number] == expected[kind], kind


def test_what_threads_do_at_once_is_what_one_does(tmp_path):
    check(["gp", "laplace", "gp", "laplace"], tmp_path)


@pytest.mark.slow
def test_sixty_four_threads_of_six_kinds(tmp_path):
    pytest.importorskip("funsor")
    names = list(kinds())
    check([names[i % len(names)] for i in range(64)], tmp_path, checks=True)
