"""Running a NumPyro program so that it can be run again with some of its draws replaced.

Every latent site has a random key derived from its name. So if one site is overridden, all others
keep their draws to the bit, and running a program again with an override *is* the continuation of
the program from that site on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer.util import compute_log_probs
from numpyro.primitives import Messenger

from inference.core.keys import parallel_keys, tagged_key
from inference.core.typing import Key, Program, PyTree, SiteArrays
from inference.vi.gradients.elements import (
    element_distribution,
    event_dim,
    smooth_at_zero_logits,
)
from inference.vi.gradients.estimators import (
    AbstractEstimator,
    Enum,
    EstimatorError,
    Reinforce,
    Reparam,
    default_estimator,
)

BatchShape: TypeAlias = tuple[int, ...]
"""The shape of the copies of a program that run side by side."""

Chooser: TypeAlias = Callable[[dict, bool], AbstractEstimator]
"""A function from a site, and whether it is inside control flow, to its estimator."""


class SiteKeys(Messenger):
    """Gives each latent site its own key, by name, and the draw that its estimator asks for.

    Args:
        program: the program that runs.
        key: the random key for the sites.
        label: the prefix of their names, where the key is shared with other draws.
        shared: the random key for the plates, so that a guide and a model take the same rows.
        choose: a function from a site, and whether it is inside control flow, to its estimator.
        params: values of the `numpyro.param` sites; None for those that the program starts with.
        inside: whether this is the body of a NumPyro `scan` or `cond`.
        resolved: ids of sites. If they are given, the run ends with `StopAtSite` at the first
            other one, if that is to be enumerated.
    """

    def __init__(
        self,
        program: Program | None,
        key: Key,
        label: str,
        shared: Key,
        choose: Chooser,
        params: Mapping[str, Any] | None,
        inside: bool = False,
        resolved: Collection[str] | None = None,
    ) -> None:
        super().__init__(program)
        self.key, self.label, self.shared, self.choose = key, label, shared, choose
        self.params, self.inside, self.resolved = params, inside, resolved
        self.unnamed = 0
        self.estimators: dict[str, AbstractEstimator] = {}

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "sample":
            msg["fn"] = smooth_at_zero_logits(msg["fn"])
            if msg["kwargs"].get("sample_shape"):
                msg["fn"] = msg["fn"].expand_by(msg["kwargs"]["sample_shape"])
                msg["kwargs"]["sample_shape"] = ()
        if msg["type"] == "plate":
            msg["kwargs"]["rng_key"] = tagged_key(self.shared, f"plate {msg['name']}")
        elif msg["type"] in ("prng_key", "control_flow") and msg["kwargs"]["rng_key"] is None:
            self.unnamed += 1
            name = f"{self.label}{msg['type']} {self.unnamed}"
            msg["kwargs"]["rng_key"] = tagged_key(self.key, name)
            if msg["type"] == "control_flow":
                msg["args"] = tuple(
                    self.wrap_body(part) if callable(part) else part for part in msg["args"]
                )
        elif msg["type"] == "sample" and not msg["is_observed"] and msg["value"] is None:
            self.draw(msg)
        elif msg["type"] == "param":
            self.set_parameter(msg)

    def set_parameter(self, msg: dict) -> None:
        """Give a `numpyro.param` site its value."""
        name = msg["name"]
        if self.inside:
            raise EstimatorError(
                f"Parameter '{name}' is inside scan or cond, where NumPyro does not learn it: "
                "move its numpyro.param statement before the loop."
            )
        if self.params is not None:
            if name not in self.params:
                raise EstimatorError(
                    f"Parameter '{name}' has no value; got values of {sorted(self.params)}."
                )
            msg["value"] = self.params[name]

    def draw(self, msg: dict) -> None:
        """Draw a latent site by its estimator.

        Raises:
            StopAtSite: if the site is to be enumerated, and all sites before it are resolved.
        """
        name, distribution = msg["name"], msg["fn"]
        key, estimator = tagged_key(self.key, self.label + name), self.choose(msg, self.inside)
        if self.inside and not (estimator.local or isinstance(estimator, Reinforce)):
            raise EstimatorError(
                f"Site '{name}' is inside scan or cond, where {type(estimator).__name__} cannot "
                "run the rest of the program again: give it infer={'estimator': Reinforce()} or "
                "Reparam(), or write the loop in Python."
            )
        if isinstance(estimator, Enum) and self.is_next():
            extras = estimator.prepare(distribution, jnp.zeros(()), key)
            dims, value = event_dim(distribution), extras["states"][0]
            raise StopAtSite(Site(self.label + name, estimator, value, extras, (), dims, None))
        self.estimators[name] = estimator
        if type(estimator) is Reparam:
            # NumPyro draws, and keeps what a flow needs for its density
            msg["kwargs"]["rng_key"] = key
        else:
            msg["value"] = estimator.draw(distribution, key)

    def is_next(self) -> bool:
        """Return whether all sites before this one are resolved.

        Then all that comes after it will be run again for each of its values.
        """
        resolved = self.resolved
        return resolved is not None and all(
            estimator.local or self.label + name in resolved
            for name, estimator in self.estimators.items()
        )

    def wrap_body(self, body: Callable) -> Callable:
        """Return the body of control flow with its sites drawn by the same rules."""

        def run(*args: PyTree) -> PyTree:
            key = numpyro.prng_key()
            assert key is not None
            inner = SiteKeys(None, key, "", self.shared, self.choose, self.params, inside=True)
            with inner:
                result = body(*args)
            self.estimators.update(inner.estimators)
            return result

        return run

    def estimator_of(self, name: str, site: dict) -> AbstractEstimator:
        """Return the estimator of a site that was drawn, or of one that was overridden."""
        return self.estimators[name] if name in self.estimators else self.choose(site, False)


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """One latent site of one run whose gradient does not pass through its value.

    Attributes:
        id: the label of the draw and the site's name; overrides are given by it.
        estimator: the estimator of its gradient.
        value: the drawn value, shape (*batch_shape, *site shape).
        extras: what the estimator prepared, with leading axes `batch_shape`; empty if the site is
            resolved.
        batch_shape: the shape of the copies of the program that were run side by side.
        event_dim: the number of trailing dimensions of one element.
        group: the label of the draws that `sim(K)` made side by side, or None.
    """

    id: str
    estimator: AbstractEstimator
    value: jax.Array
    extras: SiteArrays
    batch_shape: BatchShape
    event_dim: int
    group: str | None


class StopAtSite(Exception):
    """A run has come to the site that it was made to find.

    Args:
        site: the site to be enumerated.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.site = site


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """The result of running a program; arrays have leading axes `batch_shape`.

    Attributes:
        values: the values of the latent sites.
        log_probs: the log probabilities of all sites, summed over their elements.
        given: the names of the latent sites whose values were given.
        auxiliary: the names of the sites marked `is_auxiliary` that all other latent sites are
            computed from, as in autoguides.
        sites: the sites whose gradient does not pass through their values.
        drawn: the names of the latent sites that were not given.
        sticking: the names of the sites with `Reparam(stick=True)`.
    """

    values: SiteArrays
    log_probs: SiteArrays
    given: tuple[str, ...]
    auxiliary: tuple[str, ...]
    sites: tuple[Site, ...]
    drawn: tuple[str, ...]
    sticking: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """The arguments, parameters and estimators with which programs are run.

    Attributes:
        args: the positional arguments of the program.
        kwargs: the keyword arguments of the program.
        params: values of its `numpyro.param` sites, or None for those that it starts with.
        estimators: estimators by site name, which precede those that sites name themselves.
        key: the random key for all draws.
    """

    args: tuple
    kwargs: dict[str, Any]
    params: dict[str, Any] | None
    estimators: Mapping[str, AbstractEstimator]
    key: Key


def run_program(
    program: Program,
    call: Call,
    label: str,
    given: Mapping[str, Any],
    overrides: Mapping[str, jax.Array],
    batch_shape: BatchShape = (),
    inputs: tuple = (),
    group: str | None = None,
    resolved: Collection[str] = (),
    seeking: bool = False,
) -> Outcome:
    """Run a program once in each copy.

    Args:
        program: the program, which is called with `inputs` and then the arguments of the call.
        call: arguments, parameters, keys and estimators.
        label: the label of this draw; its keys and the ids of its sites are derived from it.
        given: values of latent sites, with leading axes `batch_shape`.
        overrides: the same for sites that would be drawn, by site name.
        batch_shape: the shape of the copies of the program.
        inputs: the first arguments of the program, with leading axes `batch_shape`.
        group: the label of draws made side by side; see `Site`.
        resolved: ids of sites that need no estimator any more.
        seeking: whether to stop at the first other one; see `SiteKeys`.

    Raises:
        StopAtSite: where it stopped.
    """
    found: dict[str, Any] = {}

    def one(key: Key, given: dict, overrides: dict, inputs: tuple) -> tuple:
        body = _substitute_sites(program, given | overrides)
        stop = resolved if seeking and not batch_shape else None
        choose = _make_chooser(call.estimators, batch_shape)
        keyed = SiteKeys(body, key, f"{label}/", call.key, choose, call.params, resolved=stop)
        log_probs, trace = compute_log_probs(keyed, (*inputs, *call.args), call.kwargs, {})
        latents = {n: s for n, s in trace.items() if s["type"] == "sample" and not s["is_observed"]}
        estimators = {
            n: keyed.estimator_of(n, site) for n, site in latents.items() if n not in given
        }
        open_sites = {n: e for n, e in estimators.items() if not e.local}
        left = {n: e for n, e in open_sites.items() if f"{label}/{n}" not in resolved}
        replacements = {n: tagged_key(key, f"{label}/{n} replacements") for n in left}
        extras = {
            n: e.prepare(latents[n]["fn"], latents[n]["value"], replacements[n])
            for n, e in left.items()
        }
        found.update(latents=latents, estimators=estimators, open=open_sites)
        return {n: jnp.asarray(site["value"]) for n, site in latents.items()}, log_probs, extras

    for _ in batch_shape:
        one = jax.vmap(one)
    keys = parallel_keys(call.key, batch_shape) if batch_shape else call.key
    values, log_probs, extras = one(keys, dict(given), dict(overrides), inputs)
    latents, estimators = found["latents"], found["estimators"]
    sites = tuple(
        Site(
            f"{label}/{n}",
            estimator,
            values[n],
            extras.get(n, {}),
            batch_shape,
            event_dim(latents[n]["fn"]),
            group,
        )
        for n, estimator in found["open"].items()
    )
    return Outcome(
        values,
        log_probs,
        given=tuple(n for n in latents if n in given),
        auxiliary=_auxiliary_sites(latents),
        sites=sites,
        drawn=tuple(estimators),
        sticking=tuple(n for n, e in estimators.items() if isinstance(e, Reparam) and e.stick),
    )


def _auxiliary_sites(latents: Mapping[str, dict]) -> tuple[str, ...]:
    """Return the names of the sites that all other latent sites are computed from."""
    names = tuple(n for n, site in latents.items() if site["infer"].get("is_auxiliary"))
    others = (site["fn"] for n, site in latents.items() if n not in names)
    computed = all(isinstance(element_distribution(one), dist.Delta) for one in others)
    return names if computed else ()


def _substitute_sites(program: Program, values: Mapping[str, Any]) -> Program:
    """Return the program with values at its latent sites.

    What a guide computes from an auxiliary site is computed, not given.
    """
    has_auxiliary = False

    def value(site: dict) -> object:
        nonlocal has_auxiliary
        if site["type"] != "sample" or site["is_observed"] or site["name"] not in values:
            return None
        has_auxiliary |= site["infer"].get("is_auxiliary", False)
        computed = has_auxiliary and isinstance(site["fn"], dist.Delta)
        return None if computed else values[site["name"]]

    return handlers.substitute(program, substitute_fn=value) if values else program


def _make_chooser(estimators: Mapping[str, AbstractEstimator], batch_shape: BatchShape) -> Chooser:
    """Return the function from a site to its estimator.

    The caller's estimator comes first, then the site's own, then the default.
    """
    copies = math.prod(batch_shape)

    def choose(site: dict, inside: bool) -> AbstractEstimator:
        distribution, name = site["fn"], site["name"]
        asked = estimators.get(name, site["infer"].get("estimator"))
        if asked is None and inside:
            return Reparam() if distribution.has_rsample else Reinforce()
        if asked is None:
            return default_estimator(distribution, copies)
        if isinstance(asked, type) and issubclass(asked, AbstractEstimator):
            raise EstimatorError(
                f"Site '{name}' has the class {asked.__name__} as its estimator; write "
                f"{asked.__name__}()."
            )
        if not isinstance(asked, AbstractEstimator):
            raise EstimatorError(
                f"Site '{name}' has estimator {asked!r}: expected one such as Reparam() or MVD()."
            )
        reason = asked.refusal(distribution, copies)
        if reason:
            raise EstimatorError(f"Site '{name}' cannot have {type(asked).__name__}(): {reason}.")
        return asked

    return choose
