"""What tells whether code that is given to `load` is the code that was fitted.

Code is not stored in files. A bundle keeps two draws of the posterior, one fixed point and, site by
site, the log density of the program at them, with its observations and as it predicts, without.
Another likelihood, link or prior has other numbers there, and so have other data that the function
takes from outside its arguments.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import jax
import numpy as np

from bayesdl.model.base import AbstractModel
from bayesdl.model.precision import precision_scope
from bayesdl.model.programs.held_out import values_at
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.saving.archive import BundleError
from inference.core.problem import Problem
from inference.core.result import with_prefix
from inference.core.typing import Info, StoredArrays
from inference.terms import Term, fixed_point, log_density_terms

NUM_DRAWS = 2
# with more numbers in a draw one must do
LARGE = 100_000
# how far draws of a given approximation may differ by rounding, relative to the largest number
CLOSE = 0.01
SHOWN = 3


def identity(posterior: AbstractPosterior) -> tuple[Info, StoredArrays]:
    """Return what a bundle keeps of a program as data and as arrays; nothing where it fails.

    Args:
        posterior: the posterior that is saved.
    """
    draws = _latents_of(posterior.sample(NUM_DRAWS), posterior.problem)
    size = sum(value.size for value in draws.values())
    kept = 0 if not draws else 1 if size > LARGE else NUM_DRAWS
    points = [{k: np.asarray(v[i]) for k, v in draws.items()} for i in range(kept)]
    try:
        with precision_scope(posterior.model):
            # at draws a likelihood without noise loses all digits
            points.append(fixed_point(posterior.problem))
            terms = log_density_terms(posterior.problem, points)
            predictive = _predictive_terms(posterior.model, posterior.problem, points)
    # a file that cannot be compared later is better than no file
    except Exception as error:
        warnings.warn(
            f"The log density of {posterior.model.name} cannot be computed for the file "
            f"({type(error).__name__}: {error}): bdl.load will not tell another model from it.",
            stacklevel=4,
        )
        return {}, {}
    arrays = {f"at/{i}/{k}": v for i, z in enumerate(points) for k, v in z.items()}
    said = {"terms": _terms_data(terms), "predictive": _terms_data(predictive)}
    return {"draws": kept} | said, arrays


def _predictive_terms(
    model: AbstractModel, problem: Problem, points: list[StoredArrays]
) -> dict[str, Term]:
    """Return the log density of the observed values by the program that is given none of them.

    It may be another one, as of `scale = 1 if y is not None else 2`. Without a run of its own, as
    where the data tell the number of rows, there is nothing to compare.
    """
    args, kwargs = model.training_inputs(problem)
    unseen = Problem(problem.program, args, kwargs)
    names = [name for name in problem.observed if name in unseen.unobserved]
    if not names:
        return {}
    values = values_at(problem, names)
    terms = log_density_terms(unseen, [point | values for point in points])
    return {name: terms[name] for name in names}


def _terms_data(terms: dict[str, Term]) -> Info:
    return {name: dataclasses.asdict(term) for name, term in terms.items()}


def check_program(
    model: AbstractModel,
    problem: Problem,
    stored: Info,
    arrays: StoredArrays,
    path: Path,
    cure: str,
) -> None:
    """Refuse a program whose log density is not that of the program that was fitted.

    Args:
        model: the model given.
        problem: its program, with the stored data.
        stored: what `identity` gave; empty for files of earlier versions.
        arrays: the arrays of the bundle.
        path: the path of the bundle.
        cure: what to give, for errors.

    Raises:
        BundleError: naming the sites that differ, and how.
    """
    if not stored:
        return
    points = _points(stored, arrays)
    terms, known = log_density_terms(problem, points), _terms(stored["terms"])
    found = _differences(known, terms)
    if not found:
        predictive = _predictive_terms(model, problem, points) if "predictive" in stored else {}
        lines = _differences(_terms(stored.get("predictive", {})), predictive)
        found = [f"without its observations, {line}" for line in lines]
    if not found:
        return
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    priors = [name for name in terms if name in problem.latents]
    in_data = not any(_compare(name, known.get(name), terms[name]) for name in priors)
    outside = (
        " Data that the function takes from outside its arguments belong to it: they must be the "
        "same too."
        if in_data
        else ""
    )
    raise BundleError(
        f"{path} holds the fit of another model than the one given: {'; '.join(found[:SHOWN])}"
        f"{more}. {cure[0].upper()}{cure[1:]}{outside}"
    )


def check_draws(
    posterior: AbstractPosterior, manifest: Info, arrays: StoredArrays, path: Path
) -> None:
    """Refuse a guide, or an order of sites, that gives an approximation other draws than it had.

    Args:
        posterior: the restored posterior.
        manifest: the manifest of the bundle.
        arrays: the arrays of the bundle.
        path: the path of the bundle.

    Raises:
        BundleError: where draws differ.
    """
    stored, order = manifest.get("identity"), list(posterior.problem.latents)
    fitted_order = [name for name in manifest.get("sites", {}) if name in order]
    own_guide = "code" in manifest["engine"]
    # another version of JAX may make other random numbers of the same key
    same_keys = manifest["versions"]["jax"] == jax.__version__
    if not stored or not same_keys or not (own_guide or fitted_order != order):
        return
    drawn = posterior.sample(NUM_DRAWS)
    what, cure = ("guide", "Give the engine with the guide that was fitted.")
    if fitted_order != order:
        what = "order of sites"
        cure = f"Approximations go by it: restore the order {fitted_order}; got {order}."
    for i, point in enumerate(_points(stored, arrays)[: stored["draws"]]):
        for name, value in point.items():
            allowed = CLOSE * max(1e-3, float(np.max(np.abs(value), initial=0.0)))
            if not np.allclose(drawn[name][i], value, rtol=CLOSE, atol=allowed, equal_nan=True):
                raise BundleError(
                    f"{path} was fitted with another {what} than the one given: at site {name!r} "
                    f"it draws {np.ravel(drawn[name][i])[0]:.4g}, where that of the fit drew "
                    f"{np.ravel(value)[0]:.4g}. {cure}"
                )


def _latents_of(sites: StoredArrays, problem: Problem) -> StoredArrays:
    """Return the latent sites alone."""
    return {name: np.asarray(value) for name, value in sites.items() if name in problem.latents}


def _points(stored: Info, arrays: StoredArrays) -> list[StoredArrays]:
    """Return the stored draws and the fixed point, a dictionary each."""
    return [with_prefix(arrays, f"at/{i}/") for i in range(stored["draws"] + 1)]


def _terms(stored: Info) -> dict[str, Term]:
    """Return terms from their data."""
    return {
        name: Term(
            data["distribution"],
            tuple(data["shape"]),
            tuple(data["log_density"]),
            tuple(data["tolerance"]),
        )
        for name, data in stored.items()
    }


def _differences(known: dict[str, Term], terms: dict[str, Term]) -> list[str]:
    """Say at which sites two programs differ, and how."""
    return [
        line for name in known | terms if (line := _compare(name, known.get(name), terms.get(name)))
    ]


def _compare(name: str, stored: Term | None, found: Term | None) -> str | None:
    """Say how a site differs from the one that was fitted, or return None."""
    if stored is None or found is None:
        where = "absent in the file" if stored is None else "absent in this program"
        return f"site {name!r} is {where}"
    other = (
        ""
        if stored.distribution == found.distribution
        else (f" (was {stored.distribution}, is {found.distribution})")
    )
    for was, now, by_rounding, by_rounding_now in zip(
        stored.log_density, found.log_density, stored.tolerance, found.tolerance, strict=True
    ):
        if was is None:
            continue
        if now is None or abs(now - was) > by_rounding + by_rounding_now:
            said = "not finite, or random," if now is None else f"{now:.6g}"
            return (
                f"site {name!r}: log density {was:.6g} in the file, {said} by this program{other}"
            )
    incomparable = all(was is None for was in stored.log_density)
    if incomparable and other:
        return f"site {name!r} was {stored.distribution}, and is {found.distribution}"
    if stored.shape != found.shape and incomparable:
        return f"site {name!r} was of shape {stored.shape}, and is of shape {found.shape}"
    return None
