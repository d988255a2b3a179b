"""Training by Adam: an epoch is one compiled scan over padded batches.

Beta follows a schedule, and the best epoch on the validation users is kept.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesdl.model.registry import register_spec
from bayesdl.recommend.autoencoder.network import Weights
from bayesdl.recommend.autoencoder.objective import Objective, entry_totals
from bayesdl.recommend.rows import CSR, AnyArray, Entries, stack_batches
from inference.core.keys import named_key
from inference.core.progress import AbstractProgress

# Where "auto" would end. It gets there fast, and goes back before the decoder has learned enough to
# judge by.
AUTO_CAP = 0.3


@register_spec("recommend.Anneal")
@dataclasses.dataclass(frozen=True)
class Anneal:
    """A linear growth of beta to `cap` within the share `until` of the planned updates.

    Beta stays at `cap` from there on. The published schedule counts updates, 200,000 of them to
    beta = 1, and so never anneals on small data.

    Attributes:
        cap: the last beta.
        until: the share of the planned updates at which beta reaches it.

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


@register_spec("recommend.PerUser")
@dataclasses.dataclass(frozen=True)
class PerUser:
    """A beta of `share` times a user's number of entries (RecVAE).

    Reference: Shenbin et al. (2020), arXiv:1912.11160.

    Attributes:
        share: beta for each entry of a user.

    Example:
        >>> PerUser().share
        0.005
    """

    share: float | int = 0.005

    def __post_init__(self) -> None:
        if not self.share >= 0:
            raise ValueError(f"{self!r}: expected share >= 0.")


@dataclasses.dataclass
class TrainingResult:
    """The parameters that training found, and how it went.

    Attributes:
        params: the parameters of the best epoch on the validation users, or of the last epoch.
        beta: the beta of that epoch.
        history: a dictionary for each epoch: beta, loss, and the validation users' score where
            there are any.
        epoch: the number of the epoch of the parameters, from 1.
    """

    params: Weights
    beta: float | int | PerUser
    history: list[dict[str, float]]
    epoch: int


@functools.partial(jax.jit, static_argnames=("objective", "learning_rate", "per_user"))
def run_epoch(
    objective: Objective,
    learning_rate: float,
    per_user: bool,
    carry: tuple,
    old: Weights,
    batches: Entries,
    betas: AnyArray,
    key: jax.Array,
) -> tuple[tuple, jax.Array]:
    """Run one pass over the batches.

    Args:
        objective: the objective.
        learning_rate: Adam's learning rate.
        per_user: whether betas are factors of each user's number of entries.
        carry: the parameters and the state of the optimiser.
        old: the parameters at the start of the epoch.
        batches: the batches, arrays with a leading axis over batches.
        betas: the beta of each batch, shape (batches,).
        key: the key of dropout and noise.

    Returns:
        Parameters and state of the optimiser, and the mean loss.
    """
    optimizer = optax.adam(learning_rate)

    def step(carry: tuple, given: tuple) -> tuple[tuple, jax.Array]:
        params, state = carry
        x, beta, i = given
        weight = beta * entry_totals(x) if per_user else beta
        loss, gradient = jax.value_and_grad(objective.loss)(
            params, old, x, weight, jax.random.fold_in(key, i)
        )
        # Features are data, not parameters.
        gradient = {
            name: jnp.zeros_like(value) if name == "features" else value
            for name, value in gradient.items()
        }
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), loss

    carry, losses = jax.lax.scan(step, carry, (batches, betas, jnp.arange(len(betas))))
    return carry, losses.mean()


class BetaSchedule:
    """The values of beta along the updates.

    "auto" rises until the validation users say that it is too high, and goes on from the best.

    Args:
        beta: "auto", a number, `Anneal`, `PerUser`, or a function of the share of the planned
            updates that is done.
        planned: the number of planned updates.
        patience: the number of epochs without a new best before "auto" goes back.
    """

    def __init__(self, beta: object, planned: int, patience: int) -> None:
        self.auto = beta == "auto"
        self.planned, self.patience = planned, patience
        self.rule: Callable[[float], Any]
        if self.auto:
            self.rule = Anneal(AUTO_CAP, 1.0)
        elif callable(beta):
            self.rule = beta
        else:
            value: Any = getattr(beta, "share", beta)
            self.rule = functools.partial(_constant_beta, value)

    def values(self, first: int, count: int) -> np.ndarray:
        """Return beta of `count` updates from the update `first` on, shape (count,).

        Raises:
            ValueError: for values below zero.
        """
        values = np.array([self.rule((first + i) / self.planned) for i in range(count)], np.float32)
        if not (values >= 0).all():
            raise ValueError(
                f"beta is {values.min()} at update {first + int(values.argmin())}: expected "
                "numbers of at least 0."
            )
        return values

    def goes_back(self, since_best: int, beta: float) -> bool:
        """Return whether training goes back to the best epoch.

        If so, its beta is held from there on.

        Args:
            since_best: the number of epochs since the best one.
            beta: the beta of the best epoch.
        """
        if not self.auto or since_best < self.patience:
            return False
        self.auto, self.rule = False, functools.partial(_constant_beta, beta)
        return True


def _constant_beta(value: float, progress: float) -> float:
    """Return this value of beta at any progress."""
    return value


def train(
    objective: Objective,
    rows: CSR,
    params: Weights,
    *,
    beta: Any,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    score: Callable[[Weights], float] | None,
    key: jax.Array,
    progress: AbstractProgress,
) -> TrainingResult:
    """Train, and return the epoch with the best score, or the last where there is no score.

    Args:
        objective: the objective.
        rows: the training users' rows.
        params: the parameters at the start.
        beta: see `BetaSchedule`; "auto" is `Anneal()` without a score.
        epochs: the number of passes over the users.
        batch_size: the number of users of an update, at most.
        learning_rate: Adam's learning rate.
        score: the score of the validation users as a function of the parameters, or None.
        key: the key of order, dropout and noise.
        progress: the progress bar.

    Raises:
        FloatingPointError: where the loss is not finite.
    """
    count = -(-rows.shape[0] // batch_size)
    # Batches are equal: a last one of few users would cost as much as the others.
    size = -(-rows.shape[0] // count)
    per_user = isinstance(beta, PerUser)
    rule = Anneal() if score is None and beta == "auto" else beta
    schedule = BetaSchedule(rule, epochs * count, patience=max(3, epochs // 8))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(named_key(key, "order"))))
    carry: tuple = (params, optax.adam(learning_rate).init(params))  # pyright: ignore
    best: tuple = (-np.inf, carry, float(schedule.values(0, 1)[0]), 0)
    history: list[dict[str, float]] = []
    progress.start(epochs, "users")
    try:
        for number in range(1, epochs + 1):
            batches = stack_batches(rows, rng.permutation(rows.shape[0]), size)
            betas = schedule.values((number - 1) * count, count)
            epoch_key = jax.random.fold_in(named_key(key, "epochs"), number)
            carry, loss = run_epoch(
                objective, learning_rate, per_user, carry, carry[0], batches, betas, epoch_key
            )
            facts = {"beta": float(betas[-1]), "loss": float(loss)}
            if not np.isfinite(facts["loss"]):
                raise FloatingPointError(
                    f"The loss is {facts['loss']} in epoch {number}: lower learning_rate, now "
                    f"{learning_rate}."
                )
            found = float(number) if score is None else score(carry[0])
            history.append(facts if score is None else facts | {"ndcg@100": found})
            if found > best[0]:
                best = (found, carry, facts["beta"], number)
            elif schedule.goes_back(number - best[3], best[2]):
                carry = best[1]
            progress.advance(1, **{name: f"{value:.4g}" for name, value in history[-1].items()})
    except KeyboardInterrupt:
        # the best so far is a recommender; before the first epoch there is none
        if not best[3]:
            raise
        warnings.warn(
            f"The training was interrupted after {len(history)} of {epochs} epochs: what it had "
            "learned by then is kept.",
            stacklevel=2,
        )
    finally:
        progress.close()
    return TrainingResult(best[1][0], beta if per_user else best[2], history, best[3])
