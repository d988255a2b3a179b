"""Langevin dynamics that see a minibatch of rows per step.

With U(u) = -log density(u), a diagonal metric m, friction gamma and q = sqrt(m) u, underdamped
Langevin dynamics

    dq = p dt,    dp = -grad U / sqrt(m) dt - gamma p dt + sqrt(2 gamma) dW

are split into a kick by the gradient, half a drift, friction with noise, and half a drift
(Leimkuhler and Matthews 2013, arXiv:1203.5428). With exact gradients the positions of a normal
posterior have no bias at any stable step size h, and others have one of order h^2.

A gradient from a minibatch brings noise n of covariance V, which would heat the momentum. Take the
difference of the gradients of the two halves of the batch, and halve it: this is a fresh draw e
with the same covariance, whatever it is, and uncorrelated with n. So before the kick the momentum
is damped along e,

    p <- p - k e (e'p),    2 k - k^2 |e|^2 = h^2
    =>    E[(I - k e e') (I - k e e')' + h^2 n n'] = I :

friction and noise balance in every direction and at every u, with no estimate of V, and with
nothing subtracted from the injected noise. (Published samplers subtract an estimate from each
coordinate and clamp what becomes negative.) Such a k exists while h |e| <= 1. Warm-up shortens the
steps where h |e| would be larger than `MOST_NOISE` on average, and the share of draws at which it
was larger than 1 all the same is reported.

References: Chen, Fox and Guestrin (2014), arXiv:1402.4102. Control variates: Baker et al. (2019),
arXiv:1706.05439.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.core.keys import parallel_keys, tagged_key
from inference.core.problem import Problem
from inference.core.typing import Info, Key, SiteArrays
from inference.mcmc.langevin_settings import AbstractLangevinSettings, Scalar
from inference.mcmc.runner.sampler import AbstractSampler, Number, Position
from inference.mcmc.starts import DRAWN, STARTS, mode

# the bound of h |e|, root mean square, to which warm-up shortens steps
MOST_NOISE = 0.5

# steps that averages look back on the way to the posterior; from half of warm-up on they forget
# nothing
MEMORY = 20.0

# warm-up begins with steps longer by this factor, but no longer than the second number
LONG_STEPS, LONGEST_STEP = 10.0, 0.1

# steps after which the metric trusts its averages as much as their mean over coordinates
SHRINKAGE = 50.0


class State(NamedTuple):
    """The state of one chain. All vectors are over flat unconstrained space, shape (d,).

    Attributes:
        u: the position.
        p: the momentum in the metric's coordinates.
        key: the chain's key, from which the key of step i is derived.
        curvature: the running average of (z * H z)^2 with random signs z; its expectation is the
            squared norms of the rows of the Hessian H.
        noise: the running average of the diagonal of V.
        metric: the metric m.
        shortened: the factor by which warm-up shortened the steps because of `MOST_NOISE`; 1 if
            it did not.
        anchor: the position at which the gradient of all rows was last taken, and that gradient;
            empty without control variates.
        temperature: (p'e)^2 / |e|^2 for the noise e of the last gradient; 1 on average if the
            momentum is thermal.
        noise_ratio: h^2 |e|^2 of the last step.
        lp: the estimate of the log density at the last gradient.
    """

    u: jax.Array
    p: jax.Array
    key: Key
    curvature: jax.Array
    noise: jax.Array
    metric: jax.Array
    shortened: jax.Array
    anchor: tuple[jax.Array, jax.Array]
    temperature: jax.Array
    noise_ratio: jax.Array
    lp: jax.Array


class LangevinSampler(AbstractSampler):
    """A chain of any of the engines of `sgmcmc.py`, on flat unconstrained space.

    Args:
        engine: the settings.
        problem: the problem that is sampled.
    """

    cheap_steps = True

    def __init__(self, engine: AbstractLangevinSettings, problem: Problem) -> None:
        super().__init__(problem, engine.num_warmup, engine.thinning)
        self.engine, self.full = engine, problem.log_density()
        self.quick_start = engine.start in DRAWN
        self.total, self.half = 1, 1
        if engine.batch_size is not None:
            self.total = problem.data_plate[1]
            self.half = min(engine.batch_size, self.total) // 2
            self.estimate = problem.batch_log_density(self.half)

    def init(self, key: Key) -> State:
        u = self.starting_position(tagged_key(key, "start"))
        nothing, zero = jnp.zeros_like(u), jnp.zeros((), u.dtype)
        p = jax.random.normal(tagged_key(key, "momentum"), u.shape, u.dtype)
        if self.engine.control_variates:
            anchor = u, jax.grad(self.full.__call__)(u)
        else:
            anchor = nothing[:0], nothing[:0]
        return State(
            u,
            p,
            key=tagged_key(key, "steps"),
            curvature=nothing,
            noise=nothing,
            metric=nothing + 1,
            shortened=zero + 1,
            anchor=anchor,
            temperature=zero,
            noise_ratio=zero,
            lp=zero,
        )

    def steps_before(self, j: Number) -> jax.Array:
        return self.engine.steps_before(j)

    def starting_position(self, key: Key) -> jax.Array:
        """Return where the chain starts, shape (d,); a search for a mode sees minibatches too."""
        if self.engine.start != "mode":
            return STARTS[self.engine.start](self.full, key)
        return mode(
            self.full, key, lambda u, key: self.estimates(u, self.draw_rows(key))[1].mean(0)
        )

    def draw_rows(self, key: Key) -> jax.Array:
        """Draw the row numbers of the two halves of a batch, shape (2, rows)."""
        return jax.random.randint(key, (2, self.half), 0, self.total)

    def step(self, i: jax.Array, state: State) -> State:
        rows_key, noise_key, sign_key = parallel_keys(jax.random.fold_in(state.key, i), (3,))
        rows = self.draw_rows(rows_key)
        state = self.renew_anchor(i, state)
        lp, g, e = self.gradient(rows, state)
        h, temperature = self.schedule(i)
        a = self.engine.damping(jnp.asarray(h, state.u.dtype))
        state = jax.lax.cond(
            i < self.num_warmup,
            self.adapt,
            lambda _, state, *rest: state,
            i,
            state,
            e,
            rows,
            sign_key,
        )

        root = jnp.sqrt(state.metric)
        along_noise, ratio, p = self.damp(state.p, e / root, h, temperature)
        p = p + h * g / root
        q = h / 2 * p
        noise = jax.random.normal(noise_key, p.shape, p.dtype)
        p = a * p + jnp.sqrt(temperature * (1 - a**2)) * noise
        q = q + h / 2 * p
        return state._replace(
            u=state.u + q / root, p=p, temperature=along_noise, noise_ratio=ratio, lp=lp
        )

    def damp(
        self, p: jax.Array, e: jax.Array, h: Scalar, temperature: Scalar
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Damp the momentum along fresh noise to balance the noise of the gradient.

        Args:
            p: the momentum, shape (d,).
            e: the fresh noise in the metric's coordinates, shape (d,).
            h: the step size.
            temperature: the temperature of the posterior.

        Returns:
            The momentum's temperature along e, h^2 |e|^2, and the damped momentum.
        """
        if self.engine.batch_size is None:
            return jnp.mean(p**2), jnp.zeros_like(p[0]), p
        # at an anchor there is no noise
        size, along = jnp.maximum(jnp.sum(e**2), 1e-30), jnp.sum(e * p)
        ratio = h**2 * size / jnp.maximum(temperature, 1e-10)
        share = jnp.where(temperature > 0, 1 - jnp.sqrt(jnp.maximum(1 - ratio, 0.0)), 0.0)
        # differences to an anchor lie along the way that the momentum took, so with control
        # variates it is hotter along them
        along_noise = jnp.mean(p**2) if self.engine.control_variates else along**2 / size
        return along_noise, ratio, p - share * along / size * e

    def schedule(self, i: jax.Array) -> tuple[jax.Array, Scalar]:
        """Return step size and temperature of step i.

        The first half of warm-up takes longer steps, so that chains arrive.
        """
        h, temperature = self.engine.schedule(i)
        longest = jnp.maximum(1.0, jnp.minimum(LONG_STEPS, LONGEST_STEP / h))
        return h * longest ** jnp.maximum(0.0, 1 - 2 * i / self.num_warmup), temperature

    def estimates(self, u: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Estimate log density and gradient from each half of a batch, shapes (2,) and (2, d).

        Without minibatches they are exact, with shapes (1,) and (1, d).
        """
        if self.engine.batch_size is None:
            lp, g = jax.value_and_grad(self.full.__call__)(u)
            return lp[None], g[None]
        return jax.vmap(jax.value_and_grad(self.estimate), (None, 0))(u, rows)

    def gradient(self, rows: jax.Array, state: State) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Estimate the log density and its gradient, and draw the gradient's noise.

        The noise is half the difference of the two halves' gradients.
        """
        lp, g = self.estimates(state.u, rows)
        if self.engine.control_variates:
            where, known = state.anchor
            g = g - self.estimates(where, rows)[1] + known[None]
        return lp.mean(), g.mean(0), (g[0] - g[-1]) / 2

    def adapt(self, i: jax.Array, state: State, e: jax.Array, rows: jax.Array, key: Key) -> State:
        """Update the averages and the metric; a larger metric means a shorter step."""
        # steps since the chain should have arrived
        since = jnp.maximum(i - self.num_warmup // 2, 0)
        rate = jnp.where(since > 0, 1 / (since + MEMORY), 1 / (jnp.minimum(i, MEMORY) + 1))
        signs = jax.random.rademacher(key, state.u.shape, state.u.dtype)
        _, product = jax.jvp(lambda u: self.estimates(u, rows)[1].mean(0), (state.u,), (signs,))
        curvature = state.curvature + rate * (product**2 - state.curvature)
        noise = state.noise + rate * (e**2 - state.noise)
        metric = jnp.maximum(jnp.sqrt(curvature), 1e-10)
        trust = i / (i + SHRINKAGE)
        metric = jnp.exp(trust * jnp.log(metric) + (1 - trust) * jnp.log(metric).mean())
        h, _ = self.engine.schedule(jnp.asarray(self.num_warmup - 1))
        longer = h**2 * jnp.sum(noise / metric) / (MOST_NOISE**2 * self.engine.temperature)
        shortened = jnp.minimum(1.0, longer**-0.5)
        return state._replace(
            curvature=curvature, noise=noise, metric=metric / shortened**2, shortened=shortened
        )

    def renew_anchor(self, i: jax.Array, state: State) -> State:
        """Take the gradient of all rows at the chain's position, every `renew_every` steps."""
        if not self.engine.control_variates:
            return state

        def renew(state: State) -> State:
            return state._replace(anchor=(state.u, jax.grad(self.full.__call__)(state.u)))

        return jax.lax.cond(i % self.engine.renew_every == 0, renew, lambda state: state, state)

    def record(self, state: State) -> tuple[Position, SiteArrays]:
        finite = jnp.isfinite(state.lp) & jnp.isfinite(state.u).all()
        stats = {
            "lp": state.lp,
            "diverging": ~finite,
            "noise_temperature": state.temperature,
            "noise_ratio": state.noise_ratio,
        }
        return state.u, stats

    def constrain(self, position: Position) -> SiteArrays:
        return self.full.constrain(position)

    def facts(self, states: State) -> Info:
        return {"shortened": np.asarray(states.shortened).tolist()}
