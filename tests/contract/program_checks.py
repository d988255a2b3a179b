"""What each verb must answer for a case of the catalogue of programs, checked against NumPyro.

    log densities      numpyro.infer.log_likelihood at the same draws
    predictions        numpyro.infer.Predictive at the same draws
    leave-one-out      elpd + p is the log predictive density of the training rows

A cell is "right" (all its checks hold) or "refused" (one error of this project, in the words that
the case expects).
"""

from __future__ import annotations

import functools
import re
import traceback
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from numpyro import handlers
from numpyro.infer import Predictive
from numpyro.infer import log_likelihood as numpyro_log_likelihood
from programs.case import Case
from scipy.special import logsumexp

import bayesdl as bdl
from inference.core.engine import fixed_params

ROOT = Path(__file__).parents[2]
ENGINES = {
    "NUTS": bdl.NUTS(num_warmup=60, num_samples=60, num_chains=2),
    "VI": bdl.VI(steps=300),
    "Laplace": bdl.Laplace(),
}
VERBS = (
    "fit",
    "predict",
    "predict new",
    "diagnose",
    "loo",
    "check_predictive",
    "summary",
    "save and load",
)
APPROXIMATION = "approximation"
REFUSED = "refused: "
# draws of NumPyro's Predictive for each draw of the posterior
REPEATS = 5
# standard errors; some ten thousand numbers are compared
FAR = 6.0


class Fit:
    """A case fitted with an engine, and what NumPyro says at the same draws."""

    def __init__(self, case: Case, engine: str) -> None:
        self.case = case
        self.post = bdl.fit(
            case.program,
            *case.data,
            **case.observed,
            engine=ENGINES[engine],
            progress=False,
        )
        self.site = {} if case.site is None else {"site": case.site}

    @property
    def observed(self) -> str:
        return self.case.site or self.post.problem.observed[0]

    def draws(self) -> dict[str, np.ndarray]:
        """The draws of the latent sites along one axis."""
        samples, latents = self.post.samples, self.post.problem.latents
        return {n: samples[n].reshape(-1, *samples[n].shape[2:]) for n in latents}

    def with_parameters(self, program):
        """The program with the parameters that VI has learned, or others have fixed."""
        known = getattr(self.post.raw, "learned", fixed_params(self.post.problem))
        return handlers.substitute(program, data=known)

    def row_densities(self) -> np.ndarray:
        """log p(y_i | z) by NumPyro, shape (draws, *rows); masked rows are zero."""
        program = self.with_parameters(self.case.summed or self.case.program)
        terms = in_numpyro(
            lambda *args, **kwargs: numpyro_log_likelihood(
                fixed(program), self.draws(), *args, **kwargs
            ),
            *self.case.data,
            **self.case.observed,
        )
        return np.asarray(terms[self.observed], float)

    def simulated(self, *args, **kwargs) -> np.ndarray:
        """Targets that NumPyro simulates at the same draws, shape (repeats * draws, ...)."""
        program = handlers.uncondition(self.with_parameters(self.case.program))
        draws = {n: np.repeat(v, REPEATS, axis=0) for n, v in self.draws().items()}
        # with an obs_mask new data have no part that was seen
        names = {self.observed, self.observed.removesuffix("_observed")}
        predictive = Predictive(program, draws, return_sites=sorted(names))
        sampled = in_numpyro(functools.partial(predictive, jax.random.key(1)), *args, **kwargs)
        return np.asarray(sampled.get(self.observed, sampled.get(min(names))))


def in_numpyro(function, *args, **kwargs):
    """Call NumPyro with arguments as they are, or as the JAX arrays that its loops need."""
    try:
        return function(*args, **kwargs)
    except (jax.errors.TracerArrayConversionError, TypeError):
        args, kwargs = jax.tree.map(as_array, (args, kwargs), is_leaf=is_column)
        return function(*args, **kwargs)


def is_column(leaf) -> bool:
    """Whether an argument is a list of numbers or a column of pandas."""
    return isinstance(leaf, list | pd.Series)


def as_array(leaf):
    return (
        jnp.asarray(np.asarray(leaf)) if isinstance(leaf, np.ndarray) or is_column(leaf) else leaf
    )


def fixed(program):
    """The program with keys for what it draws besides its sites, such as initial parameters."""
    return handlers.seed(program, jax.random.key(0))


def check_fit(fit: Fit) -> None:
    latents = fit.post.problem.latents
    assert latents
    for name in latents:
        assert np.isfinite(fit.post.samples[name]).all(), name


def check_predict(fit: Fit) -> None:
    prediction = fit.post.predict(**fit.site)
    if fit.case.means is not None:
        agree_with_closed_form(fit, prediction)
    elif fit.case.conditions:
        agree_with_simulated(fit, prediction, *fit.case.data)
    else:
        agree_with_simulated(fit, prediction, *fit.case.data, **fit.case.observed)
    if not fit.case.conditions and fit.case.dense:
        density = np.asarray(prediction.log_prob(target_values(fit)))
        by_row = fit.row_densities()
        wanted = logsumexp(by_row, axis=0) - np.log(len(by_row))
        kept = ~(by_row == 0).all(axis=0)
        np.testing.assert_allclose(
            density.reshape(wanted.shape)[kept], wanted[kept], rtol=2e-3, atol=2e-3
        )


def check_predict_new(fit: Fit) -> None:
    prediction = fit.post.predict(*fit.case.new, **fit.site)
    agree_with_simulated(fit, prediction, *fit.case.new)


def target_values(fit: Fit) -> np.ndarray:
    """The observed values of the site that is predicted."""
    at = {name: jnp.asarray(value[0]) for name, value in fit.draws().items()}
    program = handlers.substitute(fixed(fit.case.program), data=at)
    trace = in_numpyro(handlers.trace(program).get_trace, *fit.case.data, **fit.case.observed)
    return np.asarray(trace[fit.observed]["value"])


def agree_with_simulated(fit: Fit, prediction, *args, **kwargs) -> None:
    """Means (probabilities of classes) of a prediction and of NumPyro's simulations agree."""
    sampled = np.asarray(prediction.sample(50))
    assert np.isfinite(sampled.astype(float)).all()
    simulated = fit.simulated(*args, **kwargs)
    if simulated.ndim == 1 < sampled.ndim:
        # without a plate NumPyro simulates one value, which stands for each row
        simulated = np.broadcast_to(simulated[:, None], (len(simulated), *sampled.shape[1:]))
    assert sampled.shape[1:] == simulated.shape[1:]
    if prediction.target.kind == "class":
        shares = np.stack([(simulated == c).mean(0) for c in prediction.classes], axis=-1)
        probs = np.asarray(prediction.probs)
        error = np.sqrt(np.maximum(probs * (1 - probs), 1e-4) / len(simulated))
        # draws of one posterior draw share their probabilities
        assert (np.abs(shares - probs) < FAR * error).all()
        return
    mean, std = np.asarray(prediction.mean), np.asarray(prediction.std)
    if not np.isfinite(mean).all():
        # some draws have no mean, as Student's t of one degree of freedom
        below = (simulated < np.asarray(prediction.quantile(0.5))).mean(0)
        assert (np.abs(below - 0.5) < FAR * 0.5 / np.sqrt(len(simulated))).all()
        return
    usable = np.isfinite(std)
    error = np.maximum(std, simulated.std(0)) / np.sqrt(len(simulated)) + 1e-4 * (1 + np.abs(mean))
    far = np.abs(mean - simulated.mean(0)) > FAR * error
    assert not (far & usable).any(), (mean, simulated.mean(0), std)


def agree_with_closed_form(fit: Fit, prediction) -> None:
    """Means (probabilities of the second of two classes) of a prediction and its formula agree."""
    assert fit.case.means is not None
    wanted = fit.case.means({name: np.asarray(v, float) for name, v in fit.draws().items()})
    if prediction.target.kind == "class":
        mean, std = np.asarray(prediction.probs)[..., 1], 0.5
    else:
        mean, std = np.asarray(prediction.mean), np.asarray(prediction.std)
    draws = len(next(iter(fit.draws().values())))
    assert (np.abs(mean - wanted) < FAR * std / np.sqrt(draws)).all(), (mean, wanted)


def check_diagnose(fit: Fit) -> None:
    diagnosis = fit.post.diagnose()
    assert diagnosis.verdict
    assert "must be predicted" not in " ".join(diagnosis.verdict)
    assert isinstance(diagnosis.ok, bool)


def check_loo(fit: Fit) -> None:
    loo = fit.post.loo(**fit.site)
    if loo.ok:
        assert np.isfinite(loo.pointwise).all()
    if not fit.case.dense:
        return
    by_row = fit.row_densities()
    by_row = by_row.reshape(len(by_row), -1)
    kept = ~(by_row == 0).all(axis=0)
    wanted = (logsumexp(by_row, axis=0) - np.log(len(by_row)))[kept].sum()
    if np.isfinite(loo.elpd):
        np.testing.assert_allclose(loo.elpd + loo.p, wanted, rtol=2e-3, atol=2e-2)


def check_check_predictive(fit: Fit) -> None:
    check = fit.post.check_predictive(num_samples=100, **fit.site)
    numbers = check.table.select_dtypes("number").to_numpy()
    assert np.isfinite(numbers).all()
    if "mean" in check.table.index:
        y, kept = target_values(fit), ~(fit.row_densities() == 0).all(axis=0)
        y = y[kept] if kept.shape == y.shape else y
        np.testing.assert_allclose(check.table.loc["mean"].iloc[0], y.mean(), rtol=1e-3, atol=1e-3)


def check_summary(fit: Fit) -> None:
    table = fit.post.summary()
    assert len(table)
    rows = {str(row).split("[")[0] for row in table.index}
    assert rows & set(fit.post.problem.latents)


def check_save_and_load(fit: Fit, folder: Path) -> None:
    path = fit.post.save(folder / "fit.bdl")
    back = bdl.load(path, model=fit.case.program)
    for name, value in fit.post.samples.items():
        np.testing.assert_array_equal(value, back.samples[name])
    if fit.post.problem.observed and "predict" not in fit.case.refused:
        first, second = (p.predict(**fit.site).sample(20) for p in (fit.post, back))
        np.testing.assert_array_equal(first, second)


CHECKS = {
    "predict": check_predict,
    "predict new": check_predict_new,
    "diagnose": check_diagnose,
    "loo": check_loo,
    "check_predictive": check_check_predictive,
    "summary": check_summary,
}


def outcomes(case: Case, engine: str, folder: Path) -> dict[str, str]:
    """Return what each verb answers: "right", "refused: " and the words, "-", or what is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[Fit] = []
        result = {"fit": outcome(case, engine, "fit", lambda: found.append(fitted(case, engine)))}
        if not found:
            return result | {verb: "-" for verb in VERBS if verb != "fit"}
        for verb, check in CHECKS.items():
            if verb == "predict new" and case.new is None:
                result[verb] = "-"
                continue
            result[verb] = outcome(case, engine, verb, lambda check=check: check(found[0]))
        result["save and load"] = outcome(
            case, engine, "save and load", lambda: check_save_and_load(found[0], folder)
        )
    return result


def is_wrong(said: str) -> bool:
    """Whether an outcome is neither right, nor a refusal in the words that were expected."""
    return said not in ("right", "-") and not said.startswith(REFUSED)


def fitted(case: Case, engine: str) -> Fit:
    fit = Fit(case, engine)
    check_fit(fit)
    return fit


def outcome(case: Case, engine: str, verb: str, run) -> str:
    """Run one cell and say how it ended."""
    refusal = case.refusal(engine, verb)
    if verb == "loo" and engine != "NUTS":
        refusal = APPROXIMATION
    try:
        run()
    except AssertionError as error:
        return f"WRONG: {' '.join(str(error).split())[:300] or where(error)}"
    except Exception as error:
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if not ours(error):
            return f"CRASH: {words} {where(error)}"
        allowed = case.may_refuse.get(f"{engine} {verb}")
        if refusal is None and (allowed is None or not re.search(allowed, str(error))):
            return f"REFUSED: {words}"
        refusal = refusal or allowed
        if not re.search(refusal, str(error)):
            return f"OTHER WORDS: {words}"
        return f"{REFUSED}{' '.join(str(error).split())}"
    return "right" if refusal is None else f"NOT REFUSED, though {refusal!r} was expected"


def where(error: BaseException) -> str:
    """The last place of this project in a traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT) in f.filename]
    last = [f for f in frames if ".venv" not in f.filename][-1:]
    return " ".join(f"({Path(f.filename).name}:{f.lineno})" for f in last)


def ours(error: BaseException) -> bool:
    """Whether an error was raised by this project, and not by a library beneath it."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return any(f"{ROOT}/{part}/" in last for part in ("bayesdl", "inference"))
