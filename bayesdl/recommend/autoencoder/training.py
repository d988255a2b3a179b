"""Training by Adam: an epoch is one compiled scan over padded batches, beta follows a schedule, the best epoch is kept."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesdl.recommend.autoencoder.objective import Objective, totals
from bayesdl.recommend.rows import CSR, Entries, stacked
from inference.core.keys import named_key
from inference.core.progress import AbstractProgress

AUTO_CAP = 0.3  # where "auto" would end; much faster, and it goes back before the decoder has learned enough to judge by


@dataclasses.dataclass(frozen=True)
class Anneal:
    """Beta grows linearly to `cap` within the share `until` of the planned updates, and stays there.

    The published schedule counts updates, 200,000 of them to beta = 1, and so never anneals on small data.

    Example:
        >>> round(Anneal(cap=0.2, until=0.85)(0.425), 3)
        0.1
    """

    cap: float | int = 0.2
    until: float | int = 0.85

    def __post_init__(self) -> None:
        if not self.cap >= 0 or not 0 < self.until <= 1:
            raise ValueError(f"{self!r}: expected cap >= 0 and 0 < until <= 1.")

    def __call__(self, progress: float) -> float:
        return self.cap * min(1.0, progress / self.until)


@dataclasses.dataclass(frozen=True)
class PerUser:
    """Beta is `share` times a user's number of entries (RecVAE; Shenbin et al. 2020, arXiv:1912.11160).

    Example:
        >>> PerUser().share
        0.005
    """

    share: float | int = 0.005

    def __post_init__(self) -> None:
        if not self.share >= 0:
            raise ValueError(f"{self!r}: expected share >= 0.")


@dataclasses.dataclass
class Trained:
    """What training found.

    Attributes:
        params: at the best epoch on the validation users, or at the last.
        beta: where they were found.
        history: a dictionary for each epoch: beta, loss, and validation's score where there are such users.
        epoch: of the parameters, from 1.
    """

    params: dict
    beta: Any
    history: list[dict[str, float]]
    epoch: int


@functools.partial(jax.jit, static_argnames=("objective", "learning_rate", "per_user"))
def epoch(
    objective: Objective,
    learning_rate: float,
    per_user: bool,
    carry: tuple,
    old: dict,
    batches: Entries,
    betas: Any,
    key: jax.Array,
) -> tuple[tuple, jax.Array]:
    """One pass over the batches; gives parameters and optimiser state, and the mean loss."""
    optimizer = optax.adam(learning_rate)

    def step(carry: tuple, given: tuple) -> tuple[tuple, jax.Array]:
        params, state = carry
        x, beta, i = given
        weight = beta * totals(x) if per_user else beta
        loss, gradient = jax.value_and_grad(objective.loss)(
            params, old, x, weight, jax.random.fold_in(key, i)
        )
        fixed = {
            name: jnp.zeros_like(value) if name == "features" else value
            for name, value in gradient.items()
        }
        updates, state = optimizer.update(fixed, state, params)
        return (optax.apply_updates(params, updates), state), loss

    carry, losses = jax.lax.scan(step, carry, (batches, betas, jnp.arange(len(betas))))
    return carry, losses.mean()


class Betas:
    """Beta along the updates; "auto" rises until the validation users say that it is too much, and goes on from the best.

    Args:
        beta: "auto", a number, `Anneal`, `PerUser`, or a function of the share of the planned updates that is done.
        planned: number of updates.
        patience: epochs without a new best before "auto" goes back.
    """

    def __init__(self, beta: Any, planned: int, patience: int) -> None:
        self.auto = beta == "auto"
        self.planned, self.patience = planned, patience
        if self.auto:
            self.rule: Any = Anneal(AUTO_CAP, 1.0)
        elif callable(beta):
            self.rule = beta
        else:
            self.rule = functools.partial(constant, getattr(beta, "share", beta))

    def of(self, first: int, count: int) -> np.ndarray:
        """Of updates first to first + count."""
        values = np.array([self.rule((first + i) / self.planned) for i in range(count)], np.float32)
        if not (values >= 0).all():
            raise ValueError(
                f"beta is {values.min()} at update {first + int(values.argmin())}: expected numbers of at least 0."
            )
        return values

    def goes_back(self, since_best: int, beta: float) -> bool:
        """Whether training goes back to the best epoch, with its beta held from there on."""
        if not self.auto or since_best < self.patience:
            return False
        self.auto, self.rule = False, functools.partial(constant, beta)
        return True


def constant(value: float, progress: float) -> float:
    return value


def train(
    objective: Objective,
    rows: CSR,
    params: dict,
    *,
    beta: Any,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    score: Callable[[dict], float] | None,
    key: jax.Array,
    progress: AbstractProgress,
) -> Trained:
    """The parameters at the epoch with the best score, or at the last where there is no score."""
    count = -(-rows.shape[0] // batch_size)
    size = -(
        -rows.shape[0] // count
    )  # equal batches: a last one of few users would cost as much as the others
    per_user = isinstance(beta, PerUser)
    rule = Anneal() if score is None and beta == "auto" else beta
    betas = Betas(rule, epochs * count, patience=max(3, epochs // 8))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(named_key(key, "order"))))
    carry = (params, optax.adam(learning_rate).init(params))
    best: tuple = (-np.inf, carry, float(betas.of(0, 1)[0]), 0)
    history: list[dict[str, float]] = []
    progress.start(epochs, "users")
    try:
        for number in range(1, epochs + 1):
            batches = stacked(rows, rng.permutation(rows.shape[0]), size)
            steps = betas.of((number - 1) * count, count)
            seed = jax.random.fold_in(named_key(key, "epochs"), number)
            carry, loss = epoch(
                objective, learning_rate, per_user, carry, carry[0], batches, steps, seed
            )
            said = {"beta": float(steps[-1]), "loss": float(loss)}
            if not np.isfinite(said["loss"]):
                raise FloatingPointError(
                    f"The loss is {said['loss']} in epoch {number}: lower learning_rate, now {learning_rate}."
                )
            found = float(number) if score is None else score(carry[0])
            history.append(said if score is None else said | {"ndcg@100": found})
            if found > best[0]:
                best = (found, carry, said["beta"], number)
            elif betas.goes_back(number - best[3], best[2]):
                carry = best[1]
            progress.advance(1, **{name: f"{value:.4g}" for name, value in history[-1].items()})
    finally:
        progress.close()
    return Trained(best[1][0], beta if per_user else best[2], history, best[3])
