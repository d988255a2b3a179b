"""One iteration of message passing: structured mean-field coordinate ascent on the evidence bound.

    L = E log p(y | f) - sum_k KL(q(u^k) || p(u^k)) - KL(q(W) || p(W)) + log p(hyperparameters)

q(u^k) is the prior tilted by Lambda and eta (`state_space/smoother.py`), so
KL = sum_s (eta_s' m_s - <Lambda_s, E u_s u_s'> / 2) - log Z. Where each factor of q is optimal
given the others, the derivatives of L with respect to the hyperparameters are those of log Z alone.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro.distributions import biject_to

from inference.core.problem import Problem
from inference.core.structure import StateSpaceTensor
from inference.core.typing import Key, SiteArrays
from inference.messages.forms import FORMS, Moments, Tucker, moments
from inference.messages.pseudo_observations import AbstractScalarLikelihood, PseudoObservations
from inference.state_space.matern import state_space_prior
from inference.state_space.smoother import smooth

if TYPE_CHECKING:
    import optax

# how far pseudo-observations that are not conjugate go to their new values
PSEUDO_OBSERVATION_STEP = 0.5
# a lower bound for the variance of f, so that its square root has a derivative
TINY = 1e-12
# Newton steps to the best scale
NEWTON = 4


class State(NamedTuple):
    """The state of one restart.

    Attributes:
        messages: the messages Lambda and eta of each mode.
        factors: the `Moments` of each mode.
        core_message: the message Lambda and eta of the core, or None.
        core: the `Moments` of the core, or None.
        sites: the pseudo-observations of the entries.
        sigma: the scale of the likelihood.
        hyper: the unconstrained values of the hyperparameters.
        optimizer: the state of their optimiser.
    """

    messages: list
    factors: list
    core_message: tuple[Array, Array] | None
    core: Moments | None
    sites: PseudoObservations
    sigma: Any
    hyper: SiteArrays
    optimizer: PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Iteration:
    """The pure functions of one fit.

    Attributes:
        problem: a problem with a `StateSpaceTensor`.
        y: the targets, shape (N,).
        damping: the weight of the old messages.
        noise_damping: the weight of the old noise variance.
        learning_rate: the learning rate of the hyperparameters at the start.
        iterations: the number of iterations over which it decays to zero.
        parallel: whether smoothing is parallel along the index.
        order: the order of the modes in an iteration.
        known: messages of each mode and of the core from other entries, or None.
    """

    problem: Problem
    y: Array
    damping: float
    noise_damping: float
    learning_rate: float
    iterations: int
    parallel: bool
    order: tuple[int, ...]
    known: tuple[list, Any] | None = None

    @property
    def structure(self) -> StateSpaceTensor:
        return self.problem.structure_as(StateSpaceTensor)

    @property
    def form(self) -> Any:
        return FORMS[self.structure.form]()

    @property
    def likelihood(self) -> AbstractScalarLikelihood:
        return self.structure.likelihood

    @property
    def optimizer(self) -> optax.GradientTransformation:
        import optax

        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.iterations))

    def places(self) -> list:
        return [jnp.asarray(place) for place in self.structure.entry_positions]

    def values(self, hyper: dict) -> dict:
        """Return the hyperparameters in their own space."""
        return {name: biject_to(self.hyperprior(name).support)(u) for name, u in hyper.items()}

    def hyperprior(self, name: str) -> Any:
        """Return the prior distribution of a hyperparameter."""
        return self.problem.trace[name]["fn"]

    def log_prior(self, hyper: dict, sigma: ArrayLike) -> Any:
        """Return the log prior density of hyperparameters and noise, in their own space."""
        total = sum(
            (
                self.hyperprior(name).log_prob(value).sum()
                for name, value in self.values(hyper).items()
            ),
            jnp.zeros(()),
        )
        return total + self.log_prior_of_noise(sigma)

    def log_prior_for_search(self, hyper: dict) -> Array:
        """Return the log density that the hyperparameters climb: that of their logarithms.

        It leads to the median of a log-normal prior, not to its mode.

        Scales of functions are the exception: the density of their logarithm would keep those that
        are not needed from zero.
        """
        total = jnp.zeros(())
        for name, u in hyper.items():
            transform = biject_to(self.hyperprior(name).support)
            value = transform(u)
            total = total + self.hyperprior(name).log_prob(value).sum()
            if not name.endswith("scales"):
                total = total + jnp.sum(transform.log_abs_det_jacobian(u, value))
        return total

    def log_prior_of_noise(self, sigma: ArrayLike) -> Any:
        if not self.likelihood.has_scale or self.structure.scale is not None:
            return jnp.zeros(())
        return self.hyperprior("sigma").log_prob(sigma)

    def priors(self, hyper: dict) -> list:
        """Return the state-space model of each mode."""
        s = self.structure
        kernels = s.kernels(self.values(hyper))
        return [
            state_space_prior(p, kernel, jnp.asarray(x))
            for p, kernel, x in zip(s.smoothness, kernels, s.positions, strict=True)
        ]

    def start(self, key: Key, hyper: dict, sigma: ArrayLike, spread: float) -> State:
        """Return a state with random factors in (0, 1); with both signs most starts cancel."""
        s, keys = self.structure, jax.random.split(key, len(self.structure.ranks) + 1)
        factors, messages = [], []
        for key, r, x in zip(keys, s.ranks, s.positions, strict=False):
            mean = jax.random.uniform(key, (len(x), r), dtype=float)
            factors.append(moments(mean, jnp.broadcast_to(spread * jnp.eye(r), (len(x), r, r))))
            messages.append((jnp.zeros((len(x), r, r)), jnp.zeros((len(x), r))))
        core = core_message = None
        if isinstance(self.form, Tucker):
            size = math.prod(s.ranks)
            mean = jax.random.uniform(keys[-1], (size,), dtype=float)
            core, core_message = (
                moments(mean, spread * jnp.eye(size)),
                (jnp.zeros((size, size)), jnp.zeros(size)),
            )
        first = self.likelihood.first_pseudo_observations(self.y)
        blank = PseudoObservations(self.y, self.y) if first is None else first
        state = State(
            messages,
            factors,
            core_message,
            core,
            blank,
            sigma,
            hyper,
            self.optimizer.init(hyper),
        )
        return (
            state
            if first is not None
            else state._replace(sites=self.sites(state, *self.entries(state), 1.0))
        )

    def entries(self, state: State) -> tuple[Array, Array]:
        """Return mean and variance of f at each entry."""
        mean, second = self.form.entries(state.factors, state.core, self.places())
        return mean, jnp.maximum(second - mean**2, TINY)

    def sites(self, state: State, mean: Array, variance: Array, step: float) -> PseudoObservations:
        new = self.likelihood.pseudo_observations(self.y, mean, variance, state.sigma)
        return jax.tree.map(lambda old, new: old + step * (new - old), state.sites, new)

    def iterate(
        self, state: State, free: Any, learn: Any, emphasis: Any = 1.0
    ) -> tuple[State, Array]:
        """Run one iteration, and return the bound after it.

        Args:
            state: the state of a restart.
            free: whether the scale of the likelihood is updated.
            learn: whether the hyperparameters are updated.
            emphasis: how many times the data count for the factors; the bound counts them once.
        """
        priors, pull = jax.vjp(self.priors, state.hyper)
        state, divergence, slopes = self.update_modes(state, priors, emphasis)
        mean, variance = self.entries(state)
        state = state._replace(
            sigma=jnp.where(free, self.scale(state, mean, variance), state.sigma)
        )
        state = state._replace(
            sites=self.sites(
                state, mean, variance, 1.0 if self.likelihood.has_scale else PSEUDO_OBSERVATION_STEP
            )
        )
        expected = self.likelihood.expected(self.y, mean, variance, state.sigma).sum()
        bound = expected - divergence + self.log_prior(state.hyper, state.sigma)
        if state.hyper:
            state = self.learn_hyperparameters(state, pull(slopes)[0], learn)
        return state, bound

    def update_modes(self, state: State, priors: list, emphasis: Any) -> tuple[State, Array, list]:
        """Update all factors and the core once.

        Return the state, the divergence of q from the prior, and the derivatives of the bound with
        respect to the state-space models.
        """
        messages, factors, places = list(state.messages), list(state.factors), self.places()
        sites = jax.tree.map(lambda part: emphasis * part, state.sites)
        divergence, slopes = jnp.zeros(()), list(priors)
        for k in self.order:
            message = self.form.message(k, factors, state.core, places, *sites)
            messages[k] = jax.tree.map(self.damp, messages[k], self.add_known_messages(message, k))
            found = smooth(priors[k], messages[k][1], messages[k][0], self.parallel)
            factors[k] = moments(found.mean, found.covariance)
            divergence = divergence + _expected_tilt(messages[k], factors[k]) - found.log_normalizer
            slopes[k] = found.slope
        state = state._replace(messages=messages, factors=factors)
        if state.core is None:
            return state, divergence, slopes
        message = self.form.core_message(factors, places, *sites)
        core_message = jax.tree.map(
            self.damp, state.core_message, self.add_known_messages(message, None)
        )
        core, log_normalizer = _tilt_standard_normal(*core_message)
        return (
            state._replace(core_message=core_message, core=core),
            divergence + _expected_tilt(core_message, core) - log_normalizer,
            slopes,
        )

    def add_known_messages(self, message: tuple, k: int | None) -> tuple:
        """Add the messages from other entries to the message of mode k, or of the core."""
        if self.known is None:
            return message
        return jax.tree.map(
            jnp.add, tuple(message), tuple(self.known[1] if k is None else self.known[0][k])
        )

    def damp(self, old: Array, new: Array) -> Any:
        return self.damping * old + (1 - self.damping) * new

    def scale(self, state: State, mean: Array, variance: Array) -> Any:
        """Return the best scale of the likelihood under its prior, by Newton steps for its log."""
        if not self.likelihood.has_scale or self.structure.scale is not None:
            return state.sigma
        squares, n = self.likelihood.noise(self.y, mean, variance, state.sigma), len(self.y)

        def cost(log_sigma: Array) -> Any:
            return (
                n * log_sigma
                + squares * jnp.exp(-2 * log_sigma) / 2
                - self.log_prior_of_noise(jnp.exp(log_sigma))
            )

        log_sigma = 0.5 * jnp.log(squares / n)
        for _ in range(NEWTON):
            curvature = jnp.maximum(jax.grad(jax.grad(cost))(log_sigma), n)
            log_sigma = log_sigma - jax.grad(cost)(log_sigma) / curvature
        old = self.noise_damping
        return jnp.sqrt(old * state.sigma**2 + (1 - old) * jnp.exp(2 * log_sigma))

    def learn_hyperparameters(self, state: State, gradient: dict, learn: Any) -> State:
        """Return the state after one optimiser step of the hyperparameters."""
        import optax

        of_prior = jax.grad(self.log_prior_for_search)(state.hyper)
        descent = jax.tree.map(lambda a, b: -(a + b), gradient, of_prior)
        updates, optimizer = self.optimizer.update(descent, state.optimizer, state.hyper)
        moved: Any = optax.apply_updates(state.hyper, updates)
        new, old = (moved, optimizer), (state.hyper, state.optimizer)
        hyper, optimizer = jax.tree.map(lambda a, b: jnp.where(learn, a, b), new, old)
        return state._replace(hyper=hyper, optimizer=optimizer)


def order_by_size(sizes: list[int]) -> tuple[int, ...]:
    """Return the modes from most to fewest positions.

    The mode with most positions says most about the flat starts of the others.
    """
    return tuple(sorted(range(len(sizes)), key=lambda k: -sizes[k]))


def _expected_tilt(messages: tuple, found: Moments) -> Array:
    """Return E[eta'u - u'Lambda u / 2] under q."""
    precision, information = messages
    return (information * found.mean).sum() - (precision * found.second).sum() / 2


def _tilt_standard_normal(precision: Array, information: Array) -> tuple[Moments, Array]:
    """Return moments and log normaliser of N(0, I) tilted by exp(eta'w - w'Lambda w / 2)."""
    factor = jnp.linalg.cholesky(precision + jnp.eye(len(information)))
    covariance = jax.scipy.linalg.cho_solve((factor, True), jnp.eye(len(information)))
    mean = covariance @ information
    return moments(mean, covariance), information @ mean / 2 - jnp.log(jnp.diag(factor)).sum()
