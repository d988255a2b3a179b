"""The NumPyro program of a formula, and the same as text that runs on its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike

from bayesdl.data.validation import ModelError
from bayesdl.formula.families import FAMILIES, LINKS, Censored, Family
from bayesdl.formula.terms import AbstractTerm, draw, site_text, variable
from bayesdl.model.registry import register_spec
from bayesdl.model.weights import RowWeights
from inference.core.program import AbstractTraceable

LOGITS = "logit"


@register_spec("formula.Part")
@dataclasses.dataclass(frozen=True)
class Part:
    """A parameter with a linear predictor.

    Attributes:
        parameter: "mu", another parameter of the likelihood, or a class.
        link: the name of its link.
        terms: its terms.
    """

    parameter: str
    link: str
    terms: tuple


@register_spec("formula.Plan")
@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a formula's program is made of, but for the data.

    Attributes:
        text: the formula.
        likelihood: the name of the likelihood.
        parts: the parameters with predictors.
        constants: the names of the other parameters.
        priors: their priors.
        classes: the labels of classes.
        trials: the column of X with the numbers of trials, or None.
        censored: the column of X that says which rows are right-censored, or None.
    """

    text: str
    likelihood: str
    parts: tuple
    constants: tuple
    priors: tuple
    classes: tuple = ()
    trials: int | None = None
    censored: int | None = None

    @property
    def family(self) -> Family:
        """The likelihood."""
        return FAMILIES[self.likelihood]

    @property
    def terms(self) -> list[AbstractTerm]:
        """The terms of all predictors."""
        return [term for part in self.parts for term in part.terms]

    @property
    def is_ordered(self) -> bool:
        """Whether classes are ordered, with thresholds in place of an intercept."""
        return self.likelihood == "ordered"


@dataclasses.dataclass(frozen=True)
class FormulaProgram(AbstractTraceable):
    """The program of a formula; equal plans give equal programs.

    Attributes:
        plan: what the program is made of.
        predicting: whether rows may have levels that the training data had not.
        predictor: whether "y" is the linear predictor itself, without the likelihood.
    """

    plan: Plan
    predicting: bool = False
    predictor: bool = False

    def __call__(
        self, X: ArrayLike, y: ArrayLike | None = None, weights: ArrayLike | None = None
    ) -> None:
        X = jnp.asarray(X)
        run = self._run if weights is None else RowWeights(self._run, jnp.asarray(weights))
        # priors with a number for each entry
        with jax.numpy_rank_promotion("allow"):
            run(X, y)

    def _run(self, X: jax.Array, y: ArrayLike | None = None) -> None:
        plan = self.plan
        drawn = [[term.sample() for term in part.terms] for part in plan.parts]
        pairs = zip(plan.constants, plan.priors, strict=True)
        constants = {name: draw(name, prior) for name, prior in pairs}
        if plan.is_ordered:
            constants["thresholds"] = self._thresholds(drawn[0])
        with numpyro.plate("rows", X.shape[0]) as index:
            rows = X[index]
            predictors = [
                self._predictor(part, sites, rows)
                for part, sites in zip(plan.parts, drawn, strict=True)
            ]
            if self.predictor:
                if plan.is_ordered:
                    # what the reported thresholds, those at zero, are compared with
                    predictors[0] = predictors[0] + self._shift(drawn[0])
                made = _point(predictors)
            else:
                made = self._likelihood(predictors, constants, rows)
            observed = None if y is None else jnp.asarray(y)[index]
            numpyro.sample("y", made, obs=observed)

    def _predictor(self, part: Part, sites: list, rows: jax.Array) -> jax.Array:
        """Return the linear predictor of a parameter, shape (rows,)."""
        eta = jnp.zeros(rows.shape[0], rows.dtype)
        for term, drawn in zip(part.terms, sites, strict=True):
            own = rows[:, term.at : term.at + term.width]
            eta = eta + term.effect(drawn, own, self.predicting)
        return eta

    def _thresholds(self, drawn: list) -> Any:
        """Draw the thresholds between ordered classes, from the probabilities of these.

        They hold at the means of the columns; the site "thresholds" has those at zero.
        """
        count = len(self.plan.classes)
        prior: Any = dist.Dirichlet(jnp.ones(count))
        p: Any = numpyro.sample("probabilities", prior)
        below = jnp.cumsum(p)[:-1]
        centred = jnp.log(below) - jnp.log1p(-below)
        numpyro.deterministic("thresholds", centred + self._shift(drawn))
        return centred

    def _shift(self, drawn: list) -> Any:
        """Return how much further thresholds at zero are than those at the means."""
        terms = self.plan.parts[0].terms
        return sum(term.at_zero(sites) for term, sites in zip(terms, drawn, strict=True))

    def _likelihood(self, predictors: list, constants: dict, rows: jax.Array) -> dist.Distribution:
        """Return the distribution of the response."""
        plan, family = self.plan, self.plan.family
        if family.name == "categorical":
            first = jnp.zeros_like(predictors[0])
            return family.make(jnp.stack([first, *predictors], axis=-1))
        values: dict[str, Any] = dict(constants)
        for part, eta in zip(plan.parts, predictors, strict=True):
            values[part.parameter] = eta
            if part.parameter != "mu" or not _takes_logits(plan, part):
                values[part.parameter] = LINKS[part.link].inverse(eta)
        if plan.trials is not None:
            values["trials"] = rows[:, plan.trials].astype(int)
        mu = values.pop("mu")
        make = family.from_logits[0] if _takes_logits(plan) and family.from_logits else family.make
        mu = predictors[0] if family.name == "ordered" else mu
        made = make(mu, **values)
        return made if plan.censored is None else Censored(made, rows[:, plan.censored] > 0)

    def split_params(self) -> tuple[FormulaProgram, None]:
        return self, None

    def merge_params(self, numbers: object) -> FormulaProgram:
        return self


def _takes_logits(plan: Plan, part: Part | None = None) -> bool:
    """Return whether the likelihood takes the predictor itself as logits."""
    part = part or plan.parts[0]
    return plan.family.from_logits is not None and part.link == LOGITS


def _point(predictors: list) -> dist.Distribution:
    """Return the distribution that is one value of the predictor."""
    if len(predictors) == 1:
        return dist.Delta(predictors[0])
    return dist.Delta(jnp.stack(predictors, axis=-1), event_dim=1)


def source_of(plan: Plan, weighted: bool = False) -> str:
    """Return the program as text that runs on its own, with the arrays of `arrays_of`.

    Args:
        plan: what the program is made of.
        weighted: whether it takes weights of rows.
    """
    _check_names(plan)
    family, arguments, body = plan.family, [], []
    for part in plan.parts:
        effects = []
        for term in part.terms:
            sites, effect, arrays = term.lines()
            body += sites
            effects.append(effect)
            arguments += [name for name in arrays if name not in arguments]
        body.append(f"{_eta(part)} = {' + '.join(effects)}")
    pairs = zip(plan.constants, plan.priors, strict=True)
    body += [f"{name} = {site_text(name, prior)}" for name, prior in pairs]
    if plan.is_ordered:
        count = len(plan.classes)
        body += [
            f'probabilities = numpyro.sample("probabilities", dist.Dirichlet(jnp.ones({count})))',
            "below = jnp.cumsum(probabilities)[:-1]",
            "thresholds = jnp.log(below) - jnp.log1p(-below)",
            f'numpyro.deterministic("thresholds", thresholds + {_shift(plan)})',
        ]
    text = family.text
    if family.name == "categorical":
        parts = ", ".join(_eta(part) for part in plan.parts)
        first = _eta(plan.parts[0])
        body.append(f"mu = jnp.stack([jnp.zeros_like({first}), {parts}], axis=-1)")
    elif family.name == "ordered":
        body.append("mu = eta_mu")
    elif _takes_logits(plan) and family.from_logits is not None:
        text = family.from_logits[1].replace("eta", "eta_mu")
    if family.name not in ("categorical", "ordered"):
        for part in plan.parts:
            if part.parameter != "mu" or not _takes_logits(plan, part):
                inverse = LINKS[part.link].text.format(_eta(part))
                body.append(f"{part.parameter} = {inverse}")
    if plan.trials is not None:
        arguments.append("trials")
    if plan.censored is not None:
        arguments.append("censored")
        text = f"dist.RightCensoredDistribution({text}, censored)"
    rows = f"len({arguments[0]})" if arguments else "num_rows"
    arguments = arguments or ["num_rows"]
    scale = ", numpyro.handlers.scale(scale=weights)" if weighted else ""
    arguments += ["weights"] if weighted else []
    body.append(f'with numpyro.plate("rows", {rows}){scale}:')
    body.append(f'    numpyro.sample("y", {text}, obs=y)')
    head = [
        "import jax",
        "import jax.numpy as jnp",
        "import numpy as np",
        "import numpyro",
        "import numpyro.distributions as dist",
        "",
        'jax.config.update("jax_enable_x64", True)',
        "",
        "",
        f"def program({', '.join(arguments)}, y=None):",
        f"    # {plan.text}",
    ]
    return "\n".join([*head, *(f"    {line}" for line in body), ""])


def _check_names(plan: Plan) -> None:
    """Refuse to print terms whose names are the same in Python.

    Raises:
        ModelError: naming them.
    """
    found: dict[tuple[str, str], str] = {}
    for term in plan.terms:
        sites = dict.fromkeys([*term.priors(), *term.hidden(), *term.names()[1]])
        names = [("site", name) for name in sites]
        for kind, name in [*names, *(("array", name) for name in term.lines().arguments)]:
            key = kind, variable(name)
            if key in found:
                raise ModelError(
                    f"Formula.source: {found[key]!r} and {name!r} have the same name "
                    f"{key[1]!r} in Python: rename a column, or compute one of them as a column."
                )
            found[key] = name


def _shift(plan: Plan) -> str:
    """Return the shift of thresholds as Python."""
    return next((f"({text})" for term in plan.terms if (text := term.shift_text())), "0.0")


def _eta(part: Part) -> str:
    """Return the name of a predictor in the printed program."""
    return variable(f"eta_{part.parameter}")


def arrays_of(plan: Plan, X: np.ndarray) -> dict[str, Any]:
    """Return the arguments of the printed program, from the columns that the fit takes."""
    found: dict[str, Any] = {}
    for term in plan.terms:
        found |= term.arrays(X[:, term.at : term.at + term.width])
    if plan.trials is not None:
        found["trials"] = X[:, plan.trials].astype(int)
    if plan.censored is not None:
        found["censored"] = X[:, plan.censored] > 0
    return found or {"num_rows": len(X)}


def priors_of(plan: Plan) -> dict[str, str]:
    """Return the priors in words, by site."""
    found: dict[str, str] = {}
    for term in plan.terms:
        found |= term.priors()
    pairs = zip(plan.constants, plan.priors, strict=True)
    found |= {name: prior.describe() for name, prior in pairs}
    if plan.is_ordered:
        found["probabilities"] = "Dirichlet(1), of the classes at the means of the columns"
    return found
