"""Running a NumPyro program so that it can be run again with some of its draws replaced.

Every latent site has a random key derived from its name. So when one site is overridden all others keep their draws to
the bit, and running a program again with an override *is* the continuation of the program from that site on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer.util import compute_log_probs
from numpyro.primitives import Messenger

from inference.core.keys import parallel_keys, tagged_key
from inference.core.program import Program
from inference.vi.gradients.estimators import (
    AbstractEstimator,
    Enum,
    EstimatorError,
    Reinforce,
    Reparam,
    default_estimator,
    element_distribution,
    smooth_at_zero_logits,
)

Chooser = Callable[[dict, bool], AbstractEstimator]


class SiteKeys(Messenger):
    """Gives each latent site its own key, by name, and the draw that its estimator asks for.

    Args:
        program: what is run.
        key: of the sites.
        label: what stands before their names, where the key is shared with other draws.
        shared: of the plates, so that a guide and a model take the same rows.
        choose: maps (site, whether it is inside control flow) to the estimator.
        params: values of the `numpyro.param` sites; None for where the program starts them.
        inside: whether this is the body of a NumPyro `scan` or `cond`.
        resolved: ids of sites; where given, the run ends with `Reached` at the first other one, if that is to be enumerated.
    """

    def __init__(
        self,
        program: Program | None,
        key: jax.Array,
        label: str,
        shared: jax.Array,
        choose: Chooser,
        params: Mapping[str, Any] | None,
        inside: bool = False,
        resolved: Collection[str] | None = None,
    ) -> None:
        super().__init__(program)
        self.key, self.label, self.shared, self.choose = key, label, shared, choose
        self.params, self.inside, self.resolved = params, inside, resolved
        self.unnamed = 0
        self.chosen: dict[str, AbstractEstimator] = {}

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "sample":
            msg["fn"] = smooth_at_zero_logits(msg["fn"])
            if msg["kwargs"].get("sample_shape"):
                msg["fn"], msg["kwargs"]["sample_shape"] = (
                    msg["fn"].expand_by(msg["kwargs"]["sample_shape"]),
                    (),
                )
        if msg["type"] == "plate":
            msg["kwargs"]["rng_key"] = tagged_key(self.shared, f"plate {msg['name']}")
        elif msg["type"] in ("prng_key", "control_flow") and msg["kwargs"]["rng_key"] is None:
            self.unnamed += 1
            msg["kwargs"]["rng_key"] = tagged_key(
                self.key, f"{self.label}{msg['type']} {self.unnamed}"
            )
            if msg["type"] == "control_flow":
                msg["args"] = tuple(
                    self.entered(part) if callable(part) else part for part in msg["args"]
                )
        elif msg["type"] == "sample" and not msg["is_observed"] and msg["value"] is None:
            self.draw(msg)
        elif msg["type"] == "param":
            self.put_parameter(msg)

    def put_parameter(self, msg: dict) -> None:
        name = msg["name"]
        if self.inside:
            raise EstimatorError(
                f"Parameter '{name}' is inside scan or cond, where NumPyro does not learn it: move its numpyro.param "
                "statement before the loop."
            )
        if self.params is not None:
            if name not in self.params:
                raise EstimatorError(
                    f"Parameter '{name}' has no value; got values of {sorted(self.params)}."
                )
            msg["value"] = self.params[name]

    def draw(self, msg: dict) -> None:
        key, estimator = (
            tagged_key(self.key, self.label + msg["name"]),
            self.choose(msg, self.inside),
        )
        if self.inside and not (estimator.local or isinstance(estimator, Reinforce)):
            raise EstimatorError(
                f"Site '{msg['name']}' is inside scan or cond, where {type(estimator).__name__} cannot run the rest of the "
                "program again: give it infer={'estimator': Reinforce()} or Reparam(), or write the loop in Python."
            )
        if isinstance(estimator, Enum) and self.is_next():
            law = msg["fn"]
            extras = estimator.prepare(law, jnp.zeros(()), key)
            raise StopAtSite(
                Site(
                    self.label + msg["name"],
                    estimator,
                    extras["states"][0],
                    extras,
                    (),
                    event_dim(law),
                    None,
                )
            )
        self.chosen[msg["name"]] = estimator
        if type(estimator) is Reparam:
            msg["kwargs"]["rng_key"] = (
                key  # NumPyro draws, and keeps what a flow needs for its density
            )
        else:
            msg["value"] = estimator.draw(msg["fn"], key)

    def is_next(self) -> bool:
        """Whether all sites before this one are resolved, so that all after it will be run again for each of its values."""
        resolved = self.resolved
        return resolved is not None and all(
            e.local or self.label + n in resolved for n, e in self.chosen.items()
        )

    def entered(self, body: Callable) -> Callable:
        """The body of control flow, its sites drawn by the same rules."""

        def run(*args: Any) -> Any:
            key = numpyro.prng_key()
            assert key is not None
            inner = SiteKeys(None, key, "", self.shared, self.choose, self.params, inside=True)
            with inner:
                result = body(*args)
            self.chosen.update(inner.chosen)
            return result

        return run


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """One latent site of one run whose gradient does not pass through its value.

    Attributes:
        id: of the draw and the site; overrides are given by it.
        estimator: of its gradient.
        value: drawn, shape (*lanes, *site shape).
        extras: what the estimator prepared, leading axes over lanes; nothing where the site is resolved.
        lanes: shape of the copies of the program that were run side by side.
        event_dim: trailing dimensions of one element.
        group: of draws that `sim(K)` made side by side, or None.
    """

    id: str
    estimator: AbstractEstimator
    value: jax.Array
    extras: dict[str, jax.Array]
    batch_shape: tuple[int, ...]
    event_dim: int
    group: str | None


class StopAtSite(Exception):
    """A run has come to the site that it was made to find.

    Args:
        site: to be enumerated.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.site = site


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """A run of a program, leading axes over lanes.

    Attributes:
        values: of the latent sites.
        log_probs: of all sites, summed over their elements.
        given: names of the latent sites whose values were given.
        auxiliary: names of the sites marked `is_auxiliary` that all other latent sites are computed from, as in autoguides.
        sites: whose gradient does not pass through their values.
        drawn: names of the latent sites that were not given.
        sticking: names of the sites with `Reparam(stick=True)`.
    """

    values: dict[str, jax.Array]
    log_probs: dict[str, jax.Array]
    given: tuple[str, ...]
    auxiliary: tuple[str, ...]
    sites: tuple[Site, ...]
    drawn: tuple[str, ...]
    sticking: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """How a program is to be run: with which arguments, parameters and estimators.

    Attributes:
        args, kwargs: of the program.
        params: values of its `numpyro.param` sites, or None for where it starts them.
        estimators: by site name, before those that sites name themselves.
        key: of all draws.
    """

    args: tuple
    kwargs: dict[str, Any]
    params: dict[str, Any] | None
    estimators: Mapping[str, AbstractEstimator]
    key: jax.Array


def run_program(
    program: Program,
    call: Call,
    label: str,
    given: Mapping[str, Any],
    overrides: Mapping[str, jax.Array],
    lanes: tuple[int, ...] = (),
    inputs: tuple = (),
    group: str | None = None,
    resolved: Collection[str] = (),
    seeking: bool = False,
) -> Outcome:
    """Runs a program once in each lane.

    Args:
        program: called with `inputs` and then the arguments of the call.
        call: arguments, parameters, keys.
        label: of this draw; its keys and the ids of its sites are derived from it.
        given: values of latent sites, leading axes over lanes.
        overrides: the same for sites that would be drawn, by site name.
        lanes: shape of the copies of the program.
        inputs: first arguments of the program, leading axes over lanes.
        group: see `Site`.
        resolved: ids of sites that need no estimator any more.
        seeking: whether to stop at the first other one, see `Keyed`.

    Raises:
        Reached: where it stopped.
    """
    found: dict[str, Any] = {}

    def one(key: jax.Array, given: dict, overrides: dict, inputs: tuple) -> tuple:
        body = substitute_sites(program, given | overrides)
        stop = resolved if seeking and not lanes else None
        keyed = SiteKeys(
            body,
            key,
            f"{label}/",
            call.key,
            make_chooser(call.estimators, lanes),
            call.params,
            resolved=stop,
        )
        log_probs, trace = compute_log_probs(keyed, (*inputs, *call.args), call.kwargs, {})
        latents = {n: s for n, s in trace.items() if s["type"] == "sample" and not s["is_observed"]}
        estimators = {
            n: estimator_of(keyed, n, site) for n, site in latents.items() if n not in given
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

    for _ in lanes:
        one = jax.vmap(one)
    keys = parallel_keys(call.key, lanes) if lanes else call.key
    values, log_probs, extras = one(keys, dict(given), dict(overrides), inputs)
    laws = {n: site["fn"] for n, site in found["latents"].items()}
    sites = tuple(
        Site(f"{label}/{n}", e, values[n], extras.get(n, {}), lanes, event_dim(laws[n]), group)
        for n, e in found["open"].items()
    )
    auxiliary = tuple(
        n for n, site in found["latents"].items() if site["infer"].get("is_auxiliary")
    )
    if not all(
        isinstance(element_distribution(law), dist.Delta)
        for n, law in laws.items()
        if n not in auxiliary
    ):
        auxiliary = ()
    sticking = tuple(
        n for n, e in found["estimators"].items() if isinstance(e, Reparam) and e.stick
    )
    drawn = tuple(found["estimators"])
    return Outcome(
        values, log_probs, tuple(n for n in laws if n in given), auxiliary, sites, drawn, sticking
    )


def estimator_of(keyed: SiteKeys, name: str, site: dict) -> AbstractEstimator:
    """The estimator of a site that was drawn, or of one that was overridden."""
    return keyed.chosen[name] if name in keyed.chosen else keyed.choose(site, False)


def substitute_sites(program: Program, values: Mapping[str, Any]) -> Program:
    """The program with values at its latent sites; what a guide computes from an auxiliary site is computed, not given."""
    has_auxiliary = False

    def value(site: dict) -> Any:
        nonlocal has_auxiliary
        if site["type"] != "sample" or site["is_observed"] or site["name"] not in values:
            return None
        has_auxiliary |= site["infer"].get("is_auxiliary", False)
        return (
            None if has_auxiliary and isinstance(site["fn"], dist.Delta) else values[site["name"]]
        )

    return handlers.substitute(program, substitute_fn=value) if values else program


def event_dim(law: dist.Distribution) -> int:
    """Trailing dimensions of one element of a site."""
    return len(element_distribution(law).event_shape)


def make_chooser(estimators: Mapping[str, AbstractEstimator], lanes: tuple[int, ...]) -> Chooser:
    """Maps a site to its estimator: named by the caller, by the site, or the default."""
    runs = math.prod(lanes)

    def choose(site: dict, inside: bool) -> AbstractEstimator:
        law = site["fn"]
        asked = estimators.get(site["name"], site["infer"].get("estimator"))
        if asked is None and inside:
            return Reparam() if law.has_rsample else Reinforce()
        if asked is None:
            return default_estimator(law, runs)
        if isinstance(asked, type) and issubclass(asked, AbstractEstimator):
            raise EstimatorError(
                f"Site '{site['name']}' has the class {asked.__name__} as its estimator; write {asked.__name__}()."
            )
        if not isinstance(asked, AbstractEstimator):
            raise EstimatorError(
                f"Site '{site['name']}' has estimator {asked!r}: expected one such as Reparam() or MVD()."
            )
        reason = asked.refusal(law, runs)
        if reason:
            raise EstimatorError(
                f"Site '{site['name']}' cannot have {type(asked).__name__}(): {reason}."
            )
        return asked

    return choose
