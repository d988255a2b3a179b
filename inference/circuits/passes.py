"""The two passes through a forest of hidden states: log p(x) upward, all its derivatives downward.

With e_i(k) = log p(leaves of node i | z_i = k), zero where cells are missing,

    s_i(k) = e_i(k) + sum over children c of m_c(k),   m_c(p) = log sum_k T_c[p, k] exp s_c(k)
    log p(x) = log sum over roots and k of w[root, k] exp s_root(k)

which leaves out missing cells exactly. The derivatives of log p(x) are what learning needs: that
with respect to e_i(k) is p(z_i = k | x), and that with respect to log T_i[p, k] is
p(z_parent = p, z_i = k | x), the expected count of a transition. `tree_log_densities` gives all of
them by one `jax.grad`, whose rule is the downward pass. The weights T need not sum to one.

Darwiche (2003), "A differential approach to inference in Bayesian networks".
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from inference.circuits.layout import Layout
from inference.core.typing import AnyArray

# transitions are at least so probable, that products with them stay above zero
LEAST = 1e-30


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def tree_log_densities(
    layout: Layout, log_roots: AnyArray, log_edges: AnyArray, e: jax.Array
) -> jax.Array:
    """Return the logarithm of each tree's part of p(x), shape (trees, rows).

    Args:
        layout: the forest.
        log_roots: log w, shape (trees, K).
        log_edges: log T, shape (edges, K, K), from the parent's state to the child's.
        e: the log densities of leaves, shape (nodes, rows, K).
    """
    return _up(layout, log_roots, log_edges, e)[0]


def forest_log_density(
    layout: Layout, log_roots: AnyArray, log_edges: AnyArray, e: jax.Array
) -> jax.Array:
    """Return log p(x) of each row, shape (rows,); see `tree_log_densities`."""
    return logsumexp(tree_log_densities(layout, log_roots, log_edges, e), axis=0)


def _up(layout: Layout, log_roots: AnyArray, log_edges: AnyArray, e: jax.Array) -> tuple:
    """Return the log densities, s, and for each step (exp s relative to the largest, exp m)."""
    s, kept = upward(layout, log_edges, e)
    return logsumexp(s[layout.roots] + log_roots[:, None, :], axis=2), s, kept


def transitions(log_edges: AnyArray) -> jax.Array:
    """Return T, none of it zero."""
    return jnp.maximum(jnp.exp(jnp.asarray(log_edges)), LEAST)


def largest(logs: jax.Array) -> jax.Array:
    """Return the largest logarithms along the last axis, which is kept; zero for none finite."""
    top = logs.max(-1, keepdims=True)
    return jnp.where(jnp.isneginf(top), 0.0, top)


def upward(layout: Layout, log_edges: AnyArray, e: jax.Array) -> tuple:
    """Return s, shape (nodes + 1, rows, K), and what the steps leave for the downward pass.

    Args:
        layout: the forest.
        log_edges: log T.
        e: the log densities of leaves.
    """
    weights = transitions(log_edges)
    s = jnp.concatenate([e, jnp.zeros((1, *e.shape[1:]), e.dtype)])
    if not len(layout.edges):
        return s, None

    def step(s: jax.Array, at: Any) -> tuple:
        below = s[at.child]
        top = largest(below)
        a = jnp.exp(below - top)
        sums = jnp.einsum("wpk,wbk->wbp", weights[at.edge], a)
        known = (at.child < layout.nodes)[:, None, None]
        m = jnp.where(known, jnp.log(sums) + top, 0.0)
        return s.at[at.parent].add(m), (a, sums)

    return jax.lax.scan(step, s, jax.tree.map(jnp.asarray, layout.steps))


def _forward(layout: Layout, log_roots: AnyArray, log_edges: AnyArray, e: jax.Array) -> tuple:
    value, s, kept = _up(layout, log_roots, log_edges, e)
    return value, (value, s, kept, log_roots, log_edges)


def _backward(layout: Layout, saved: tuple, g: jax.Array) -> tuple:
    """Return the derivatives with respect to log w, log T and e, weighted by g."""
    value, s, kept, log_roots, log_edges = saved
    possible = jnp.where(jnp.isneginf(value), 0.0, value)
    tops = s[layout.roots] + log_roots[:, None, :] - possible[:, :, None]
    top = g[:, :, None] * jnp.exp(tops)
    r = jnp.zeros_like(s).at[layout.roots].set(top)
    if kept is None:
        return top.sum(1), jnp.zeros_like(jnp.asarray(log_edges)), r[:-1]
    weights = transitions(log_edges)

    def step(r: jax.Array, at: Any) -> tuple:
        steps, (a, sums) = at
        known = (steps.child < layout.nodes)[:, None, None] & (sums > 0)
        share = jnp.where(known, r[steps.parent] / jnp.where(known, sums, 1.0), 0.0)
        T = weights[steps.edge]
        counts = T * jnp.einsum("wbp,wbk->wpk", share, a)
        below = a * jnp.einsum("wpk,wbp->wbk", T, share)
        return r.at[steps.child].set(below), counts

    order = jax.tree.map(jnp.asarray, layout.steps)
    r, counts = jax.lax.scan(step, r, (order, kept), reverse=True)
    total = (
        jnp.zeros_like(jnp.asarray(log_edges))
        .at[order.edge.reshape(-1)]
        .add(counts.reshape(-1, *counts.shape[2:]))
    )
    return top.sum(1), total, r[:-1]


tree_log_densities.defvjp(_forward, _backward)
