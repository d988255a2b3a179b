"""Discrete latent sites: mixtures, hidden Markov models, annotators, change points."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan
from numpyro.ops.indexing import Vindex

from programs.case import Case, generator

rng = generator(5)


def mixture(y=None, n=20):
    w = numpyro.sample("w", dist.Dirichlet(jnp.ones(2)))
    with numpyro.plate("parts", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("rows", n):
        z = numpyro.sample("z", dist.Categorical(w), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(mu[z], 0.7), obs=y)


def mixture_unmarked(y=None, n=20):
    w = numpyro.sample("w", dist.Dirichlet(jnp.ones(2)))
    with numpyro.plate("parts", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("rows", n):
        z = numpyro.sample("z", dist.Categorical(w))
        numpyro.sample("y", dist.Normal(mu[z], 0.7), obs=y)


def mixture_summed(y=None, n=20):
    w = numpyro.sample("w", dist.Dirichlet(jnp.ones(2)))
    with numpyro.plate("parts", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("rows", n):
        parts = dist.MixtureSameFamily(dist.Categorical(w), dist.Normal(mu, 0.7))
        numpyro.sample("y", parts, obs=y)


def zero_inflated(x, y=None):
    """Excess zeros by a switch for each row."""
    gate = numpyro.sample("gate", dist.Beta(1, 1))
    rate = numpyro.sample("rate", dist.Gamma(2, 1))
    with numpyro.plate("rows", len(x)):
        off = numpyro.sample("off", dist.Bernoulli(gate), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Poisson(jnp.where(off == 1, 1e-3, rate)), obs=y)


def zero_inflated_summed(x, y=None):
    gate = numpyro.sample("gate", dist.Beta(1, 1))
    rate = numpyro.sample("rate", dist.Gamma(2, 1))
    with numpyro.plate("rows", len(x)):
        parts = dist.Poisson(jnp.stack([rate, 1e-3 * jnp.ones_like(rate)]))
        choice = dist.Categorical(jnp.stack([1 - gate, gate]))
        numpyro.sample("y", dist.MixtureSameFamily(choice, parts), obs=y)


def outliers(x, y=None):
    """A line with rows that do not belong to it."""
    b = numpyro.sample("b", dist.Normal(0, 5))
    p = numpyro.sample("p", dist.Beta(1, 5))
    with numpyro.plate("rows", len(x)):
        odd = numpyro.sample("odd", dist.Bernoulli(p), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(b * x, jnp.where(odd == 1, 5.0, 0.3)), obs=y)


def outliers_summed(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 5))
    p = numpyro.sample("p", dist.Beta(1, 5))
    with numpyro.plate("rows", len(x)):
        kinds = dist.Categorical(jnp.broadcast_to(jnp.stack([1 - p, p]), (len(x), 2)))
        parts = [dist.Normal(b * x, scale) for scale in (0.3, 5.0)]
        numpyro.sample("y", dist.MixtureGeneral(kinds, parts), obs=y)


def hidden_markov(T, y=None):
    """Two hidden states, summed out along the chain."""
    with numpyro.plate("states", 2):
        transition = numpyro.sample("transition", dist.Dirichlet(jnp.ones(2)))
        mu = numpyro.sample("mu", dist.Normal(jnp.array([-1.0, 1.0]), 1))

    def step(state, value):
        state = numpyro.sample(
            "state", dist.Categorical(transition[state]), infer={"enumerate": "parallel"}
        )
        numpyro.sample("y", dist.Normal(mu[state], 0.5), obs=value)
        return state, None

    scan(step, 0, y, length=T)


def dawid_skene(positions, annotations=None):
    """Annotators with a confusion matrix each judge items whose class is hidden."""
    annotators, classes = int(np.max(positions)) + 1, 2
    items, judged = 8, np.shape(positions)[-1]
    with numpyro.plate("annotators", annotators, dim=-2), numpyro.plate("classes", classes):
        confusion = numpyro.sample("confusion", dist.Dirichlet(jnp.array([3.0, 1.0])))
    share = numpyro.sample("share", dist.Dirichlet(jnp.ones(classes)))
    with numpyro.plate("items", items, dim=-2):
        c = numpyro.sample("c", dist.Categorical(share), infer={"enumerate": "parallel"})
        with numpyro.plate("positions", judged):
            p = Vindex(confusion)[positions, c, :]
            p = jnp.where(jnp.asarray(c)[..., None] == 1, p[..., ::-1], p)
            numpyro.sample("annotations", dist.Categorical(p), obs=annotations)


def capture(T, individuals, y=None):
    """Animals survive from year to year and are seen again, or not."""
    phi, rho = numpyro.sample("phi", dist.Uniform(0, 1)), numpyro.sample("rho", dist.Uniform(0, 1))

    def step(alive, seen):
        with numpyro.plate("animals", individuals, dim=-1):
            alive = numpyro.sample(
                "alive", dist.Bernoulli(alive * phi), infer={"enumerate": "parallel"}
            )
            numpyro.sample("y", dist.Bernoulli(alive * rho), obs=seen)
        return alive, None

    scan(step, jnp.ones(individuals, dtype=int), y, length=T)


def change_point(n, y=None):
    """One time at which the mean changes, for all rows."""
    early, late = (
        numpyro.sample("early", dist.Normal(0, 3)),
        numpyro.sample("late", dist.Normal(0, 3)),
    )
    when = numpyro.sample(
        "when", dist.Categorical(probs=jnp.ones(10) / 10), infer={"enumerate": "parallel"}
    )
    with numpyro.plate("times", n):
        mean = jnp.where(jnp.arange(n) < when, early, late)
        numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def unknown_count(y=None, n=6):
    """A latent count without a bound cannot be summed out."""
    total = numpyro.sample("total", dist.Poisson(20.0))
    p = numpyro.sample("p", dist.Beta(2, 2))
    with numpyro.plate("visits", n):
        numpyro.sample("y", dist.Binomial(total, probs=p), obs=y)


def nested_plates(shape, y=None):
    """Each row is of a kind, and each of its cells of a kind that depends on it."""
    w = numpyro.sample("w", dist.Beta(1, 1))
    mu = numpyro.sample("mu", dist.Normal(jnp.array([-1.0, 1.0]), 1).to_event(1))
    with numpyro.plate("rows", shape[0], dim=-2):
        a = numpyro.sample("a", dist.Bernoulli(w), infer={"enumerate": "parallel"})
        with numpyro.plate("columns", shape[1], dim=-1):
            p = jnp.where(a == 1, 0.8, 0.2)
            b = numpyro.sample("b", dist.Bernoulli(p), infer={"enumerate": "parallel"})
            numpyro.sample("y", dist.Normal(mu[b], 0.5), obs=y)


def semi_supervised(x, label=None, known=None):
    """Some labels are known, the others are summed out."""
    mu = numpyro.sample("mu", dist.Normal(jnp.array([-1.0, 1.0]), 1).to_event(1))
    with numpyro.plate("known", len(known)):
        numpyro.sample("label", dist.Bernoulli(0.5), obs=label)
        numpyro.sample("x_known", dist.Normal(mu[label], 0.5), obs=known)
    with numpyro.plate("unknown", len(x)):
        z = numpyro.sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        numpyro.sample("x", dist.Normal(mu[z], 0.5), obs=x)


def semi_supervised_summed(x, label=None, known=None):
    mu = numpyro.sample("mu", dist.Normal(jnp.array([-1.0, 1.0]), 1).to_event(1))
    with numpyro.plate("known", len(known)):
        numpyro.sample("label", dist.Bernoulli(0.5), obs=label)
        numpyro.sample("x_known", dist.Normal(mu[label], 0.5), obs=known)
    with numpyro.plate("unknown", len(x)):
        parts = dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Normal(mu, 0.5))
        numpyro.sample("x", parts, obs=x)


def normal(value, mean, scale=0.5):
    """The density up to a factor."""
    return np.exp(-0.5 * ((value - mean) / scale) ** 2)


def means_of_chain(z):
    """E[y_t | y, z] by the forward and the backward sums of a hidden Markov model."""
    P, mu = z["transition"], z["mu"]
    seen = normal(y_chain[:, None], mu[:, None, :])
    forward, backward = [P[:, 0] * seen[:, 0]], [np.ones_like(mu)]
    for t in range(1, len(y_chain)):
        forward.append(np.einsum("si,sij->sj", forward[-1], P) * seen[:, t])
        backward.append(np.einsum("sij,sj->si", P, seen[:, -t] * backward[-1]))
    weight = np.stack(forward, 1) * np.stack(backward[::-1], 1)
    weight /= weight.sum(-1, keepdims=True)
    return (weight * mu[:, None, :]).sum(-1).mean(0)


def means_of_annotations(z):
    """P(annotation is 1 | y, z): the sum over the class of an item at its posterior."""
    shown = z["confusion"]
    # the probability of a 1 by (draw, class, annotator)
    p = np.stack([shown[:, :, 0, 1], shown[:, :, 1, 0]], axis=1)
    likely = np.where(annotations[:, None, None, :] == 1, p, 1 - p).prod(-1)
    weight = likely * z["share"]
    weight /= weight.sum(-1, keepdims=True)
    return np.einsum("nsc,scj->nj", weight, p) / len(p)


def means_of_captures(z):
    """P(seen | y, z): the sum over the year in which an animal dies."""
    years = len(seen)
    total, alive = np.zeros((len(z["phi"]), seen.shape[1])), []
    phi, rho = z["phi"][:, None], z["rho"][:, None]
    for life in range(years + 1):
        rows = seen[:life]
        weight = phi**life * np.where(life < years, 1 - phi, 1)
        weight = weight * np.where(rows == 1, rho[..., None], 1 - rho[..., None]).prod(1)
        weight = weight * (seen[life:].sum(0) == 0)
        alive.append(weight)
        total += weight
    return np.stack([(rho * sum(alive[t + 1 :]) / total).mean(0) for t in range(years)])


def means_after_change(z):
    """E[y_t | y, z]: the sum over the time of the change."""
    at, y = np.arange(10), np.repeat([0.0, 2.0], 5)
    before = at < at[:, None]
    mean = np.where(before, z["early"][:, None, None], z["late"][:, None, None])
    weight = normal(y, mean).prod(-1)
    weight /= weight.sum(-1, keepdims=True)
    return np.einsum("sk,skt->t", weight, mean) / len(mean)


def means_of_cells(z):
    """E[y | y, z]: the kind of a row at its posterior, that of a cell given it."""
    w, mu = z["w"][:, None], z["mu"]
    p = np.array([0.2, 0.8])
    of_cell = normal(grid[..., None], mu[:, None, None])
    rows = [(of_cell[..., 1] * q + of_cell[..., 0] * (1 - q)).prod(-1) for q in p]
    odd = w * rows[1] / (w * rows[1] + (1 - w) * rows[0])
    mean = [mu[:, 1:] * q + mu[:, :1] * (1 - q) for q in p]
    of_row = (odd * mean[1] + (1 - odd) * mean[0]).mean(0)
    return np.repeat(of_row[:, None], grid.shape[1], axis=1)


y_mixed = np.where(rng.uniform(size=20) < 0.4, -2, 2) + 0.7 * rng.normal(size=20)
y_counts = rng.poisson(3, 15) * (rng.uniform(size=15) > 0.3)
x = np.linspace(-1, 1, 15)
y_chain = np.where(np.arange(12) % 6 < 3, -1, 1) + 0.4 * rng.normal(size=12)
positions = np.tile(np.arange(3), (8, 1))
truth = rng.integers(0, 2, 8)
annotations = np.where(rng.uniform(size=(8, 3)) < 0.85, truth[:, None], 1 - truth[:, None])
seen = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 1, 0]])
grid = rng.normal(size=(4, 3))
label = np.array([0, 1, 1])
INFINITE = r"total.*(infinite|finite|Gibbs|truncat)"

CASES = (
    Case("mixture", mixture, (), {"y": y_mixed}, summed=mixture_summed),
    Case("mixture, not marked", mixture_unmarked, (), {"y": y_mixed}, summed=mixture_summed),
    Case(
        "excess zeros by a switch",
        zero_inflated,
        (x,),
        {"y": y_counts},
        (x[:4],),
        summed=zero_inflated_summed,
    ),
    Case(
        "odd rows",
        outliers,
        (x,),
        {"y": 2 * x + 0.3 * rng.normal(size=15)},
        (x[:4] * 2,),
        summed=outliers_summed,
    ),
    Case(
        "hidden Markov model",
        hidden_markov,
        (12,),
        {"y": y_chain},
        means=means_of_chain,
        dense=False,
    ),
    Case(
        "annotators",
        dawid_skene,
        (positions,),
        {"annotations": annotations},
        means=means_of_annotations,
        dense=False,
    ),
    Case(
        "capture and recapture", capture, (3, 4), {"y": seen}, means=means_of_captures, dense=False
    ),
    Case(
        "change point",
        change_point,
        (10,),
        {"y": np.repeat([0.0, 2.0], 5)},
        means=means_after_change,
        dense=False,
    ),
    Case(
        "a count without a bound",
        unknown_count,
        (),
        {"y": np.array([8, 9, 11, 7, 10, 9])},
        refused={"fit": INFINITE},
    ),
    Case(
        "nested discrete sites",
        nested_plates,
        ((4, 3),),
        {"y": grid},
        means=means_of_cells,
        dense=False,
    ),
    Case(
        "labels partly known",
        semi_supervised,
        (np.where(np.arange(9) % 2, 1.0, -1.0),),
        {"label": label, "known": 2.0 * label - 1},
        site="x",
        summed=semi_supervised_summed,
    ),
)
