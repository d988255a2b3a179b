"""Smoothing of r functions along one index, given information about their values.

At each of n sorted positions there is information on the values u of r functions. The tilted
distribution and its normaliser Z are

    q(u) = p(u) prod_s exp(eta_s' u_s - u_s' Lambda_s u_s / 2) / Z,

with Lambda_s positive semidefinite, and zero where nothing is known: missing and new positions are
states like any other. With m, P the moments of a state before its own and all later information,
g = d log Z / d m and d log Z / d P = (g g' - J) / 2,

    E_q[Z] = m + P g,    Cov_q[Z] = P - P J P

(Bryson and Frazier 1963). So no covariance is ever inverted, and the derivatives of log Z with
respect to the state-space model come for free. Two paths give the same numbers: a scan forwards and
one backwards, or prefix sums in a logarithmic number of parallel steps.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Prior(NamedTuple):
    """r independent functions with one kernel, as a state-space model of s states each.

    Attributes:
        start: the covariance of the first state, shape (s, s).
        steps: the transition A before each position, shape (n, s, s); the first is not used.
        noises: the process noise Q before each position, shape (n, s, s); the first is not used.
        variances: the variances of the functions, which multiply all covariances, shape (r,).
        observed: the weights with which a state's entries add up to the function, shape (s,).
    """

    start: Array
    steps: Array
    noises: Array
    variances: Array
    observed: Array


class Smoothed(NamedTuple):
    """The moments of the tilted distribution, and how its normaliser depends on the prior.

    Attributes:
        log_normalizer: log Z.
        mean: the means of the functions, shape (n, r).
        covariance: the covariance of the functions at each position, shape (n, r, r).
        slope: the derivatives d log Z / d prior.
    """

    log_normalizer: Array
    mean: Array
    covariance: Array
    slope: Prior


class Adjoint(NamedTuple):
    """Moments before an update, and the derivatives of log Z with respect to them.

    Attributes:
        m: the mean before the update, shape (n, r, s).
        P: the covariance before the update, shape (n, r, s, r, s).
        g: the derivative d log Z / d m, shape (n, r, s).
        J: the matrix in d log Z / d P = (g g' - J) / 2, shape (n, r, s, r, s).
        before_m: the mean after the previous update, shape (n, r, s).
        before_P: the covariance after the previous update, shape (n, r, s, r, s).
    """

    m: Array
    P: Array
    g: Array
    J: Array
    before_m: Array
    before_P: Array


def smooth(prior: Prior, information: Array, precision: Array, parallel: bool = False) -> Smoothed:
    """Return the moments of the tilted distribution, its normaliser and the normaliser's slope.

    Args:
        prior: the state-space model of the functions.
        information: eta at each position, shape (n, r).
        precision: Lambda at each position, shape (n, r, r).
        parallel: whether to use prefix sums instead of scans.
    """
    log_normalizer, adjoint = (_smooth_in_parallel if parallel else _smooth_in_sequence)(
        prior, information, precision
    )
    m, P, g, J, _, _ = adjoint
    h = prior.observed
    # Cov[Z, u]
    to_functions = jnp.einsum("naibj,j->naib", P, h)
    mean = jnp.einsum("nai,i->na", m, h) + jnp.einsum("naib,nai->nb", to_functions, g)
    before = jnp.einsum("naib,i->nab", to_functions, h)
    removed = jnp.einsum("naic,naibj->ncbj", to_functions, J)
    covariance = before - jnp.einsum("ncbj,nbjd->ncd", removed, to_functions)
    covariance = (covariance + jnp.swapaxes(covariance, 1, 2)) / 2
    return Smoothed(log_normalizer, mean, covariance, _differentiate_normalizer(prior, adjoint))


def _differentiate_normalizer(prior: Prior, adjoint: Adjoint) -> Prior:
    """Return the derivatives of log Z with respect to the prior's arrays."""
    _, _, g, J, before_m, before_P = adjoint
    by_P = (jnp.einsum("nai,nbj->naibj", g, g) - J) / 2
    # noise is independent between functions
    own = jnp.einsum("naiaj->naij", by_P)
    by_noise = jnp.einsum("naij,a->nij", own, prior.variances)
    noises = prior.noises.at[0].set(prior.start)
    by_step = jnp.einsum("nai,naj->nij", g, before_m)
    by_step = by_step + 2 * jnp.einsum("naibk,nkl,najbl->nij", by_P, prior.steps, before_P)
    by_variances = jnp.einsum("naij,nij->a", own, noises)
    first = jnp.arange(len(by_noise))[:, None, None] == 0
    return Prior(
        by_noise[0],
        jnp.where(first, 0.0, by_step),
        jnp.where(first, 0.0, by_noise),
        by_variances,
        jnp.zeros_like(prior.observed),
    )


def _smooth_in_sequence(
    prior: Prior, information: Array, precision: Array
) -> tuple[Array, Adjoint]:
    """Return log Z and the adjoint by a filter and a backward pass.

    Information enters one direction after the other: with Lambda = L D L' and h a column of L in
    the place of u,

        P <- P - (P h)(P h)' d / (1 + d S),    m <- m + P h (e - d h'm) / (1 + d S),    S = h'P h,

    where d is an entry of D and e one of L^-1 eta.
    """
    r, s = len(prior.variances), len(prior.observed)
    L, D = decompose_ldl(precision)
    e = jax.scipy.linalg.solve_triangular(
        L, information[..., None], lower=True, unit_diagonal=True
    )[..., 0]
    scales, own = (
        prior.variances[:, None, None, None],
        jnp.eye(r, dtype=information.dtype)[:, None, :, None],
    )

    def noise(Q: Array) -> Array:
        return scales * own * Q[None, :, None, :]

    def forwards(carry: tuple, given: tuple) -> tuple[tuple, tuple]:
        m, P, total = carry
        A, Q, L, d, e = given
        moved_m = m @ A.T
        moved_P = jnp.einsum("ij,ajbk,lk->aibl", A, P, A) + noise(Q)
        new_m, new_P, updates = moved_m, moved_P, []
        for i in range(r):
            h = L[:, i, None] * prior.observed[None]
            Ph = jnp.einsum("aibj,bj->ai", new_P, h)
            S, mu = jnp.sum(h * Ph), jnp.sum(h * new_m)
            gain = 1 / (1 + d[i] * S)
            surprise = (e[i] - d[i] * mu) * gain
            total = (
                total
                + 0.5 * surprise**2 * S / gain
                + e[i] * mu
                - 0.5 * d[i] * mu**2
                - 0.5 * jnp.log1p(d[i] * S)
            )
            new_m = new_m + Ph * surprise
            new_P = new_P - (d[i] * gain) * Ph[:, :, None, None] * Ph[None, None]
            updates.append((Ph, surprise, d[i] * gain))
        Phs, surprises, weights = (jnp.stack(parts) for parts in zip(*updates, strict=True))
        return (new_m, new_P, total), (moved_m, moved_P, m, P, Phs, surprises, weights)

    def backwards(carry: tuple, given: tuple) -> tuple[tuple, tuple]:
        g, J = carry
        A, L, Phs, surprises, weights = given
        for i in reversed(range(r)):
            h, Ph = L[:, i, None] * prior.observed[None], Phs[i]
            g = g + h * (surprises[i] - weights[i] * jnp.sum(Ph * g))
            JPh = jnp.einsum("aibj,bj->ai", J, Ph)
            cross = h[:, :, None, None] * JPh[None, None]
            both = h[:, :, None, None] * h[None, None]
            J = J - weights[i] * (cross + jnp.transpose(cross, (2, 3, 0, 1)))
            J = J + (weights[i] + weights[i] ** 2 * jnp.sum(Ph * JPh)) * both
        return (g @ A, jnp.einsum("ji,ajbk,kl->aibl", A, J, A)), (g, J)

    zero = jnp.zeros((r, s), information.dtype)
    none = jnp.zeros((r, s, r, s), information.dtype)
    steps = prior.steps.at[0].set(0.0)
    noises = prior.noises.at[0].set(prior.start)
    (_, _, total), (m, P, before_m, before_P, *updates) = jax.lax.scan(
        forwards, (zero, none, jnp.zeros((), information.dtype)), (steps, noises, L, D, e)
    )
    _, (g, J) = jax.lax.scan(backwards, (zero, none), (steps, L, *updates), reverse=True)
    return total, Adjoint(m, P, g, J, before_m, before_P)


def decompose_ldl(precision: Array) -> tuple[Array, Array]:
    """Decompose positive semidefinite matrices, shape (..., r, r), as Lambda = L D L'.

    Return L, with a unit diagonal, and the diagonal of D. A column whose pivot is zero but for
    rounding is left out.
    """
    r = precision.shape[-1]
    finfo = jnp.finfo(precision.dtype)
    units = jnp.eye(r, dtype=precision.dtype)
    L, D, rest = [], [], precision
    for j in range(r):
        pivot = rest[..., j, j]
        sure = pivot > r * finfo.eps * jnp.maximum(precision[..., j, j], finfo.tiny)
        d = jnp.where(sure, pivot, 0.0)
        ratios = rest[..., :, j] / jnp.where(sure, pivot, 1.0)[..., None]
        below = jnp.broadcast_to(jnp.arange(r) >= j, ratios.shape)
        unit = jnp.broadcast_to(units[j], ratios.shape)
        column = jnp.where(sure[..., None], jnp.where(below, ratios, 0.0), unit)
        rest = rest - d[..., None, None] * column[..., :, None] * column[..., None, :]
        L.append(column)
        D.append(d)
    return jnp.stack(L, -1), jnp.stack(D, -1)


class Element(NamedTuple):
    """The relation of two states: Z' | Z ~ N(A Z + b, C), times exp(eta' Z - Z' J Z / 2)."""

    A: Array
    b: Array
    C: Array
    eta: Array
    J: Array


def _compose(one: Element, two: Element) -> Element:
    """Compose two batches of elements (Sarkka and Garcia-Fernandez 2021, arXiv:1905.13002)."""
    eye = jnp.eye(one.C.shape[-1], dtype=one.C.dtype)[None]
    M = jnp.linalg.inv(eye + one.C @ two.J)
    through, back = two.A @ M, _transpose(M @ one.A)
    return Element(
        through @ one.A,
        _matvec(through, one.b + _matvec(one.C, two.eta)) + two.b,
        through @ one.C @ _transpose(two.A) + two.C,
        _matvec(back, two.eta - _matvec(two.J, one.b)) + one.eta,
        back @ two.J @ one.A + one.J,
    )


def _transpose(matrices: Array) -> Array:
    """Swap the last two axes."""
    return jnp.swapaxes(matrices, -1, -2)


def _matvec(matrices: Array, vectors: Array) -> Array:
    """Multiply a batch of matrices with a batch of vectors."""
    return (matrices @ vectors[..., None])[..., 0]


def _smooth_in_parallel(
    prior: Prior, information: Array, precision: Array
) -> tuple[Array, Adjoint]:
    """Return the same as `_smooth_in_sequence`, by prefix sums of elements from both sides."""
    n, r = information.shape
    s = len(prior.observed)
    dtype = information.dtype
    eye, functions = jnp.eye(r * s, dtype=dtype), jnp.eye(r, dtype=dtype)
    # shape (r s, r)
    H = jnp.kron(functions, prior.observed[:, None])
    A = jnp.kron(functions, prior.steps.at[0].set(0.0)).reshape(n, r * s, r * s)
    Q = jnp.kron(jnp.diag(prior.variances), prior.noises.at[0].set(prior.start))
    zeros = jnp.zeros((n, r * s), dtype)
    J, eta = jnp.einsum("ia,nab,jb->nij", H, precision, H), information @ H.T
    moving = Element(A, zeros, Q, zeros, jnp.zeros_like(A))
    telling = Element(jnp.broadcast_to(eye, A.shape), zeros, jnp.zeros_like(A), eta, J)
    prefix = jax.lax.associative_scan(_compose, _compose(moving, telling))
    suffix = jax.lax.associative_scan(
        lambda a, b: _compose(b, a), _compose(telling, _shift_moves(moving)), reverse=True
    )
    before_m = jnp.concatenate([zeros[:1], prefix.b[:-1]])
    before_P = jnp.concatenate([jnp.zeros_like(A[:1]), prefix.C[:-1]])
    m, P = _matvec(A, before_m), A @ before_P @ _transpose(A) + Q
    M = jnp.linalg.inv(eye[None] + P @ suffix.J)
    g, curvature = _matvec(_transpose(M), suffix.eta - _matvec(suffix.J, m)), suffix.J @ M
    # the information at each position, given all before it
    seen_P, seen_m = jnp.einsum("ia,nij,jb->nab", H, P, H), m @ H
    inner = functions[None] + precision @ seen_P
    new = information - _matvec(precision, seen_m)
    quadratic = jnp.einsum(
        "ni,nij,nj->n", new, seen_P, jnp.linalg.solve(inner, new[..., None])[..., 0]
    )
    at_mean = jnp.sum(information * seen_m, 1) - 0.5 * jnp.einsum(
        "ni,nij,nj->n", seen_m, precision, seen_m
    )
    total = jnp.sum(0.5 * quadratic + at_mean - 0.5 * jnp.linalg.slogdet(inner)[1])
    wide, square = (n, r, s), (n, r, s, r, s)
    return total, Adjoint(
        m.reshape(wide),
        P.reshape(square),
        g.reshape(wide),
        curvature.reshape(square),
        before_m.reshape(wide),
        before_P.reshape(square),
    )


def _shift_moves(moving: Element) -> Element:
    """Return the move after each position; after the last one nothing is known."""
    return Element(*(jnp.concatenate([part[1:], jnp.zeros_like(part[:1])]) for part in moving))
