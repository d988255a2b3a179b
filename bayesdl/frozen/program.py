"""The heads: small Bayesian models of a target given what a frozen predictor says.

Numbers, with f the prediction in units of the standardised target and phi its features:

    y = f + e,    log scale of e = a + tau phi' b,    a ~ N(-1, 1.5^2), tau ~ HalfNormal(0.3),
    b ~ N(0, I)

where e is normal, Student-t with 2 + Gamma(2, 0.1) degrees of freedom, or generalised normal with
log beta ~ N(log 2, 0.5^2). The last is BayesCap (Upadhyay et al. 2022, arXiv:2207.06873) as its
paper means it: with the prediction kept as it is, and the power beta in the likelihood, which the
published code leaves out (its beta then ends at 0.684 whatever the data).

Classes, with L the predictor's log-probabilities:

    temperature   softmax(L / T),      log T ~ N(0, 1)
    vector        softmax(w L + b),    w ~ N(1, 0.5^2), b ~ N(0, 0.5^2)
    dirichlet     softmax(W L + b),    off-diagonals of W ~ N(0, 0.1^2)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from inference.distributions.generalised_normal import GeneralisedNormal

NUMBER_HEADS = ("generalised", "normal", "student")
CLASS_HEADS = ("temperature", "vector", "dirichlet")
# features beyond are taken to be here
FARTHEST = 4.0


def number_head(head: str, X: jax.Array, y: jax.Array | None) -> None:
    """Run the program of a number: the first column of X is f, the others are features.

    Args:
        head: one of `NUMBER_HEADS`.
        X: prediction and features, shape (rows, columns).
        y: the standardised targets; None where they are drawn.
    """
    centre = numpyro.sample("log_scale", dist.Normal(-1.0, 1.5))
    columns = X.shape[1] + 1
    spread = numpyro.sample("slope_scale", dist.HalfNormal(0.3))
    slopes = numpyro.sample("slopes", dist.Normal(0.0, 1.0).expand((columns,)).to_event(1))
    if head == "generalised":
        shape = jnp.exp(numpyro.sample("log_shape", dist.Normal(jnp.log(2.0), 0.5)))
    elif head == "student":
        shape = 2 + jnp.asarray(numpyro.sample("df_minus_2", dist.Gamma(2.0, 0.1)))
    else:
        shape = jnp.array(2.0)
    with numpyro.plate("rows", X.shape[0]) as index:
        rows = X[index]
        f = rows[:, 0]
        features = jnp.concatenate([rows, (f**2 - 1)[:, None]], axis=1)
        features = jnp.clip(features, -FARTHEST, FARTHEST)
        scale = jnp.exp(jnp.clip(centre + spread * (features @ slopes), -12.0, 6.0))
        if head == "generalised":
            given = GeneralisedNormal(f, scale, jnp.broadcast_to(shape, f.shape))
        elif head == "student":
            given = dist.StudentT(jnp.broadcast_to(shape, f.shape), f, scale)
        else:
            given = dist.Normal(f, scale)
        numpyro.sample("y", given, obs=None if y is None else y[index])


def class_head(head: str, X: jax.Array, y: jax.Array | None) -> None:
    """Run the program of classes: the columns of X are log-probabilities.

    Args:
        head: one of `CLASS_HEADS`.
        X: log-probabilities, shape (rows, classes).
        y: the indices of the labels; None where they are drawn.
    """
    classes = X.shape[1]
    if head == "temperature":
        log_temperature = jnp.asarray(numpyro.sample("log_temperature", dist.Normal(0.0, 1.0)))
        cool = jnp.exp(-log_temperature)
        matrix, offset = cool * jnp.eye(classes), jnp.zeros(classes)
    else:
        weights = dist.Normal(1.0, 0.5).expand((classes,)).to_event(1)
        matrix = jnp.diag(jnp.asarray(numpyro.sample("weights", weights)))
        offsets = dist.Normal(0.0, 0.5).expand((classes,)).to_event(1)
        offset = jnp.asarray(numpyro.sample("offset", offsets))
    if head == "dirichlet":
        others = dist.Normal(0.0, 0.1).expand((classes, classes)).to_event(2)
        matrix = matrix + numpyro.sample("others", others) * (1 - jnp.eye(classes))
    with numpyro.plate("rows", X.shape[0]) as index:
        logits = X[index] @ matrix.T + offset[None]
        given: Any = dist.Categorical(logits=logits)
        numpyro.sample("y", given, obs=None if y is None else y[index])
