"""Write the arrays that `tools.compare_draws` compares, with fixed seeds and public names only.

    python -P tools/drawn_arrays.py FOLDER

writes one `.npz` for each case into the folder, or a `.txt` with the error where a case fails. The
script imports whatever `bayesdl` is on the path, so it uses only what both checkouts have.
"""

from __future__ import annotations

import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
SHORT = {"num_warmup": 50, "num_samples": 20, "num_chains": 2}
SMALL = {"width": 8, "layers": 1, "heads": 2, "hidden": 8, "frequencies": 2, "bars": 30}


def make_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make inputs, targets and new inputs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 2))
    return X, X @ [1.0, -0.5] + 0.3 * rng.normal(size=20), rng.normal(size=(4, 2))


def line(x: Any, y: Any = None) -> None:
    """Model a line with noise: a NumPyro program."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    w = numpyro.sample("w", dist.Normal(0, 2).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(w[0] + w[1] * jnp.asarray(x), sigma), obs=y)


def small_network() -> Any:
    """A small Bayesian network."""
    import bayesdl as bdl

    return bdl.BNN(hidden=(4,))


def fit_rows(model: Any, engine: Any) -> Any:
    """Fit a model to the rows."""
    import bayesdl as bdl

    X, y, _ = make_rows()
    return bdl.fit(model, X, y, engine=engine, seed=3, progress=False)


def predict(post: Any) -> Arrays:
    """Predict the new rows."""
    prediction = post.predict(make_rows()[2])
    found = {name: getattr(prediction, name) for name in ("mean", "std", "epistemic")}
    found["quantile"] = prediction.quantile([0.1, 0.9])
    found["log_prob"] = prediction.log_prob(np.array([0.0, 1.0, -1.0, 0.5]))
    return found | {"sample": prediction.sample(20)}


def fit_nuts() -> Arrays:
    """Draw a network's weights by NUTS, and predict."""
    import bayesdl as bdl

    post = fit_rows(small_network(), bdl.NUTS(**SHORT))
    return {**post.samples, **predict(post)}


def fit_sghmc() -> Arrays:
    """Draw a network's weights by SGHMC."""
    import bayesdl as bdl

    engine = bdl.SGHMC(**SHORT | {"num_warmup": 200}, thinning=5, batch_size=10)
    return fit_rows(small_network(), engine).samples


def fit_vi() -> Arrays:
    """Fit a network by mean-field VI."""
    import bayesdl as bdl

    return fit_rows(small_network(), bdl.VI(steps=200, batch_size=10)).sample(20)


def fit_iwelbo() -> Arrays:
    """Fit a program by VI with another objective."""
    import bayesdl as bdl

    X, y, _ = make_rows()
    engine = bdl.VI(objective=bdl.vi.iwelbo(4), steps=200)
    return bdl.fit(line, X[:, 0], y=y, engine=engine, seed=3, progress=False).sample(20)


def fit_laplace() -> Arrays:
    """Fit a network by a Laplace approximation."""
    import bayesdl as bdl

    return fit_rows(small_network(), bdl.Laplace()).sample(20)


def fit_ssvi() -> Arrays:
    """Fit a sparse network; its kernel is given, as "auto" chooses by measured times."""
    import bayesdl as bdl

    engine = bdl.SSVI(density=0.5, steps=120, every=20, kernel="transient", num_samples=20)
    post = fit_rows(bdl.BNN(hidden=(6,)), engine)
    masks = {f"mask {name}": mask for name, mask in bdl.sparse.masks(post).items()}
    return {**post.sample(20), **masks}


def fit_mclmc() -> Arrays:
    """Draw from a program by MCLMC."""
    import bayesdl as bdl

    X, y, _ = make_rows()
    engine = bdl.MCLMC(**SHORT, thinning=2)
    return bdl.fit(line, X[:, 0], y=y, engine=engine, seed=3, progress=False).samples


def fit_exact_gp() -> Arrays:
    """Predict with an exact Gaussian process."""
    import bayesdl as bdl

    return predict(fit_rows(bdl.GP(), bdl.ExactGP()))


def pass_messages() -> Arrays:
    """Fit a functional tensor by message passing, and predict."""
    import bayesdl as bdl

    X, y, new = (np.round(part, 1) for part in make_rows())
    engine = bdl.MessagePassing(iterations=40, restarts=2)
    post = bdl.fit(bdl.FunBaT(("a", "b")), X, y, engine=engine, seed=3, progress=False)
    prediction = post.predict(new)
    return {"mean": prediction.mean, "std": prediction.std}


def train_pfn() -> Arrays:
    """Train a prior-data fitted network, and predict with it."""
    import bayesdl as bdl

    training = bdl.amortized.Training(steps=50, max_rows=20, num_inputs=2, **SMALL)
    trained = bdl.PFN.train(small_network(), training, progress=False)
    hashed = np.frombuffer(bytes.fromhex(trained.hash), np.uint8)
    losses = np.array(trained.facts["losses"])
    prediction = fit_rows(trained.model, trained).predict(make_rows()[2])
    answers = {"mean": prediction.mean, "quantile": prediction.quantile([0.1, 0.9])}
    return {"weights": hashed, "losses": losses, **answers}


def fit_recommender() -> Arrays:
    """Fit a MultVAE, and recommend."""
    import scipy.sparse

    import bayesdl as bdl

    X = scipy.sparse.csr_array(
        (np.random.default_rng(0).uniform(size=(40, 12)) < 0.3).astype(np.float32)
    )
    model = bdl.recommend.MultVAE(
        hidden=(8,), latent=3, epochs=5, batch_size=20, progress=False
    ).fit(X)
    found = model.recommend(X[:5], k=4, refine_steps=2)
    names = ("items", "scores", "probabilities", "lower", "upper")
    return {name: getattr(found, name) for name in names} | {"hits": found.expected_hits(2)}


def match_prior() -> Arrays:
    """Match a prior to a Gaussian process."""
    import bayesdl as bdl

    gp = bdl.GP(bdl.kernels.RBF(lengthscale=2.0, variance=1.0))
    prior = bdl.match_prior(small_network(), to=gp, inputs=make_rows()[0], steps=10, progress=False)
    return {"weight": np.array(prior.weight), "bias": np.array(prior.bias)}


def draw_prior() -> Arrays:
    """Draw data sets from the prior."""
    import bayesdl as bdl

    X, y, _ = make_rows()
    found = bdl.prior_predictive(small_network(), X, y, num_samples=20)
    return {"y": found.y, "function": found.function}


def check_calibration() -> Arrays:
    """Compute ranks of simulation-based calibration."""
    import bayesdl as bdl

    engine = bdl.NUTS(num_warmup=50, num_samples=10, thinning=2)
    found = bdl.sbc(
        line,
        make_rows()[0][:, 0],
        y=make_rows()[1],
        engine=engine,
        num_simulations=20,
        progress=False,
    )
    return found.ranks


CASES: dict[str, Callable[[], Arrays]] = {
    "NUTS of a network": fit_nuts,
    "SGHMC of a network": fit_sghmc,
    "VI of a network": fit_vi,
    "VI by iwelbo of a program": fit_iwelbo,
    "Laplace of a network": fit_laplace,
    "SSVI of a network": fit_ssvi,
    "MCLMC of a program": fit_mclmc,
    "exact Gaussian process": fit_exact_gp,
    "message passing": pass_messages,
    "PFN": train_pfn,
    "MultVAE": fit_recommender,
    "matched prior": match_prior,
    "prior predictive": draw_prior,
    "calibration": check_calibration,
}


def write(name: str, folder: Path) -> None:
    """Write the arrays of a case, or the error that it ends with."""
    started = time.process_time()
    try:
        arrays = {key: np.asarray(value) for key, value in CASES[name]().items()}
        np.savez(folder / f"{name}.npz", allow_pickle=False, **arrays)
    except Exception:  # a case that fails must not hide the others
        (folder / f"{name}.txt").write_text(traceback.format_exc())
    print(f"{name:<28}{time.process_time() - started:6.1f} CPU s", file=sys.stderr, flush=True)


def main() -> None:
    """Write all cases into the folder given."""
    import bayesdl

    folder = Path(sys.argv[1])
    (folder / "package.txt").write_text(str(Path(bayesdl.__file__).resolve()))
    warnings.simplefilter("ignore")  # of chains that are too short
    for name in CASES:
        write(name, folder)


if __name__ == "__main__":
    main()
